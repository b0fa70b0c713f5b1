/* page.c - the frame of a page. See page.h. */
#include "report/page.h"

#include <math.h>

#include "base/sys.h"

enum { RELOAD_S = 60 };

/* clang-format off */
static const char STYLE[] =
    ":root{color-scheme:light dark;--bg:#f7f7f5;--fg:#1d1d1b;--dim:#67665f;--line:#e3e2dc;--card:#fff;"
    "--s1:#2a78d6;--s2:#d97f00;--s3:#15936b;--s4:#7a4fc4;--s5:#d0403f;--s6:#7a7a70}"
    "@media(prefers-color-scheme:dark){:root{--bg:#141413;--fg:#f1f0ea;--dim:#a5a49b;--line:#353430;--card:#1e1e1c;"
    "--s1:#5aa0f2;--s2:#eaa03a;--s3:#2fbf92;--s4:#b394f5;--s5:#f07674;--s6:#9c9b92}}"
    "*{box-sizing:border-box}"
    "body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}"
    "main{max-width:1200px;margin:0 auto;padding:28px 20px 48px}"
    "h1{font-size:25px;line-height:1.25;margin:0 0 6px}h2{font-size:18px;margin:34px 0 10px}"
    "p,ul{margin:8px 0;max-width:75ch}ul{padding-left:20px}"
    ".dim,small,figcaption small,footer{color:var(--dim);font-weight:400}footer{margin-top:36px;font-size:13px}"
    /* cards */
    ".tiles{display:flex;flex-wrap:wrap;gap:10px;margin:16px 0}"
    ".tile,.card,.chart{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 16px}"
    ".tile{min-width:110px}.tile b{display:block;font-size:21px;font-weight:600}"
    ".grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:14px;align-items:start}"
    ".grid>div{display:grid;gap:14px}figure{margin:0}.chart figcaption{font-weight:600;margin-bottom:6px}.none{color:var(--dim)}"
    /* tables */
    ".wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}"
    "th,td{text-align:right;padding:7px 12px;border-bottom:1px solid var(--line);white-space:nowrap;vertical-align:top}"
    "tr:last-child td{border-bottom:0}th{font-size:13px;font-weight:500;color:var(--dim)}"
    "th:first-child,td:first-child,.note{text-align:left}.note{white-space:normal;min-width:250px;color:var(--dim)}"
    "td:first-child{font-weight:600}.big{font-weight:600}"
    "@media(max-width:720px){.note{white-space:nowrap}}"     /* rows of one line; the card scrolls */
    /* charts */
    "svg{width:100%;max-width:680px;height:auto;display:block}svg text{font:12px system-ui,sans-serif;fill:var(--fg)}"
    "svg .t{fill:var(--dim);font-size:11px;paint-order:stroke;stroke:var(--card);stroke-width:3px}"
    ".g{stroke:var(--line)}.m{stroke:var(--dim);stroke-dasharray:4 4}.c{fill:none;stroke-width:2;stroke-linejoin:round}"
    ".p{stroke:var(--card);stroke-width:1.5}.h{opacity:0}.h:hover{opacity:1}"
    ".s1{color:var(--s1)}.s2{color:var(--s2)}.s3{color:var(--s3)}.s4{color:var(--s4)}.s5{color:var(--s5)}.s6{color:var(--s6)}"
    ".c{stroke:currentColor}.p,.b{fill:currentColor}"
    ".keys{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:13px;margin:8px 0 0}"
    ".k i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px;vertical-align:-1px;background:currentColor}"
    /* pictures */
    ".row{display:grid;grid-template-columns:repeat(auto-fit,minmax(126px,1fr));gap:8px;margin:0 0 12px}"
    ".row img{width:100%;display:block;border-radius:4px;image-rendering:pixelated}"
    ".row figcaption{font-size:12.5px;color:var(--dim);padding-top:2px}"
    ".ramp{display:inline-block;width:90px;height:12px;border-radius:3px;vertical-align:-1px;margin:0 6px}"
    "summary{cursor:pointer}pre{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px;"
    "overflow-x:auto;font-size:12.5px}";
/* clang-format on */

void page_open(Str *out, const char *title, bool live) {
    str_add(out, "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
                 "<meta name=viewport content='width=device-width,initial-scale=1'>"
                 "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; img-src "
                 "data:; style-src 'unsafe-inline'\">");
    if (live) str_addf(out, "<meta http-equiv=refresh content=%d>", RELOAD_S);
    str_add(out, "<title>");
    str_escape_html(out, title);
    str_add(out, "</title><style>");
    str_add(out, STYLE);
    str_add(out, "</style></head><body><main><h1>");
    str_escape_html(out, title);
    str_add(out, "</h1>\n");
}

Err page_close(Str *out, const char *path) {
    char now[32];
    sys_wall_time(now);
    str_addf(out, "<footer>written %s by retort %s</footer></main></body></html>\n", now,
             RETORT_VERSION);
    Err rc = durable_write_all(path, out->s, out->n);
    str_free(out);
    return rc;
}

void page_percent(Str *out, double v, const char *unit) {
    if (isfinite(v)) str_addf(out, "%.2f%s", 100 * v, unit);
    else str_add(out, "-");
}
