/* page.h - what both kinds of page are made of: the frame, and the parts of one run.
 *
 * One file, everything inside: no script, and no request to anywhere. Colours are variables, set once
 * for light and once for dark. All text from outside goes through str_escape_html. */
#ifndef RETORT_REPORT_PAGE_H
#define RETORT_REPORT_PAGE_H
#include "report/report.h"

void page_open(Str *out, const char *title, bool live);      /* live: the page reloads itself */
Err  page_close(Str *out, const char *path);                 /* writes it; frees out in any case */
void page_percent(Str *out, double v, const char *unit);     /* 0..1 as "12.34" + unit; NaN: "-" */
void page_cell(Str *out, double v);                          /* a percentage in a table */
void page_tile(Str *out, const char *name, const char *text);
void page_key(Str *out, const uint8_t rgb[3], const char *text);     /* of a legend */
/* H x W x 3 shrunk by the whole factor that brings it to at most side pixels: by averaging, or by picking where mixed colours
 * would name other classes. Caller frees. */
uint8_t *page_shrink(const uint8_t *rgb, int h, int w, int side, bool average, int *out_h, int *out_w);

/* html.c: parts of one run. */
void run_tiles(Str *out, const RunData *r);
void run_charts(Str *out, const RunData *r);
void run_config(Str *out, const RunData *r);                 /* run_config.c */
char *run_setting(const RunData *r, const char *name);       /* a value of config.yaml, "" or the value; caller frees; NULL: not there */

/* pictures.c: for each image one row of panels, read from maps/ of run directories. */
typedef struct Panel { const char *dir, *kind, *title; } Panel;     /* dir/maps/STEM.kind.png */
void pictures_add(Str *out, const RunData *r, const Panel *panels, int n);  /* the images of r */
void pictures_history(Str *out, const RunData *r);           /* some of them as they were at evaluations */
#endif
