/* windows.h - where a network looks at an image, and how its grids are put together again. */
#ifndef RETORT_EVAL_WINDOWS_H
#define RETORT_EVAL_WINDOWS_H
#include "eval/eval.h"

/* One pass: window [y, y + h) x [x, x + w) of the image resized and scaled to H x W, which covers rows [top, bottom)
 * and columns [left, right) of the image itself. */
typedef struct Window {
    int y, x, h, w, H, W;
    bool mirrored;
    int top, bottom, left, right;
    int ramp_y, ramp_x;              /* pixels of the image over which weights rise from inner edges; 0: equal */
} Window;
/* All passes over an image, in the order of their `top`. Caller frees. */
Window *windows_of(const InferOptions *o, int h, int w, int *n);
bool windows_slide(const InferOptions *o, int h, int w);     /* at some scale in parts, or whole at all */
/* "whole", "windows of 360x360 every 240x240, ..."; slid: some image was seen in parts. Caller frees. */
char *infer_text(const InferOptions *o, bool slid);
/* dst: h x w x 3 of the window, as the network gets it; overwritten. */
void window_pixels(uint8_t *dst, const Window *v, const uint8_t *rgb, int h, int w);

/* A pass that was made: its logits K x gh x gw. */
typedef struct View {
    Window at;
    const float *logits;
    float *own;                      /* logits, where they are a copy */
    int gh, gw;
} View;
/* Rows [from, to) of an image of h x w, of which all views are there. pred, confidence: as in Prediction;
 * probs: K x (to - from) x w, these rows alone. */
typedef struct Rows {
    const View *v;
    int n, k, h, w, from, to;        /* n views of k classes */
    InferAverage average;
    uint8_t *pred;
    float *confidence, *probs;       /* NULL: not wanted */
    struct Place **column;           /* these three: of views.c alone */
    bool probabilities;
    int parts;
} Rows;
void views_rows(Rows r);
#endif
