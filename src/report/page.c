/* page.c - the frame of a page. See page.h. */
#include "report/page.h"

#include <math.h>

#include "base/sys.h"

enum { RELOAD_S = 60 };

/* clang-format off */
static const char STYLE[] =
    ":root{color-scheme:light dark;--bg:#f6f6f3;--fg:#1c1c1a;--dim:#66655e;--line:#e4e3dd;--card:#fff;--shade:0 4px 16px #0002;"
    "--s1:#1a82d0;--s2:#d2690a;--s3:#00693f;--s4:#993588;--s5:#6b5500;--s6:#3a1fa8;--bad:#b3261e}"
    "@media(prefers-color-scheme:dark){:root{--bg:#131312;--fg:#efeee8;--dim:#a3a299;--line:#34332f;--card:#1d1d1b;--shade:0 4px 16px #000a;"
    "--s1:#4f9dff;--s2:#ff7f40;--s3:#4fe08c;--s4:#e08cc2;--s5:#e6e04a;--s6:#ac58cc;--bad:#ff8a80}}"
    "*{box-sizing:border-box}"
    "body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif;-webkit-text-size-adjust:100%}"
    "main{max-width:1240px;margin:0 auto;padding:32px 24px 56px}"
    "h1{font-size:26px;line-height:1.25;margin:0 0 4px;overflow-wrap:anywhere}"
    "h2{font-size:18px;margin:40px 0 12px}h3{font-size:14px;margin:20px 0 8px;overflow-wrap:anywhere}"
    "p,ul{margin:8px 0;max-width:75ch}ul{padding-left:20px}"
    ".dim,small,figcaption small,footer{color:var(--dim);font-weight:400}footer{margin-top:40px;font-size:13px}"
    ".tile b small{font-size:13px}.bad{color:var(--bad)}"
    /* the head */
    ".bar{height:6px;border-radius:3px;background:var(--line);margin:14px 0;overflow:hidden}.bar b{display:block;height:100%;background:var(--s1)}"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(132px,1fr));gap:12px;margin:16px 0}"
    ".tile,.card,.chart{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 16px}"
    ".tile{font-size:13px;line-height:1.35}.tile b{display:block;font-size:19px;line-height:1.4;font-weight:600;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}"
    /* cards */
    ".grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:16px;align-items:start}"
    ".grid>div{display:grid;gap:16px;min-width:0}.grid>*{min-width:0}.grid>.full{grid-column:1/-1}figure{margin:0}"
    ".chart>figcaption{font-weight:600;line-height:1.35;margin-bottom:12px}.chart>figcaption small{margin-left:4px;font-size:12.5px}.none{color:var(--dim)}"
    /* tables */
    ".wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}"
    "th,td{text-align:right;padding:7px 12px;border-bottom:1px solid var(--line);white-space:nowrap;vertical-align:top}"
    "tr:last-child td{border-bottom:0}th{font-size:13px;font-weight:500;color:var(--dim)}"
    "th:first-child,td:first-child,.note{text-align:left}.note{white-space:normal;min-width:250px;color:var(--dim)}"
    "td:first-child{font-weight:600}.big{font-weight:600}"
    ".set td,.set th,.worst td:nth-child(2),.worst th:nth-child(2){text-align:left}.set td:nth-child(2){white-space:normal;overflow-wrap:anywhere;min-width:12em}"
    "@media(max-width:720px){.note{white-space:nowrap}}"
    /* curves: an SVG over the box, text and notes as HTML around it */
    ".plot{position:relative;margin:6px min(var(--r,14px),32%) 26px 42px;font-size:11.5px;line-height:15px;font-variant-numeric:tabular-nums}"
    ".plot>svg{position:absolute;inset:0;width:100%;height:100%;overflow:visible;display:block}"
    ".plot path{fill:none;vector-effect:non-scaling-stroke}"
    ".plot>b{position:absolute;font-weight:400;white-space:nowrap;color:var(--dim);pointer-events:none}"
    ".plot .y{right:100%;margin-right:8px;transform:translateY(-50%)}.plot .x,.axis .x{top:100%;margin-top:6px;transform:translateX(-50%)}"
    ".plot .n{left:100%;margin-left:8px;max-width:calc(var(--r) - 10px);overflow:hidden;text-overflow:ellipsis;transform:translateY(-50%);color:currentColor;font-weight:600;font-size:12px}"
    ".plot .n.s1,.s1{color:var(--s1)}.plot .n.s2,.s2{color:var(--s2)}.plot .n.s3,.s3{color:var(--s3)}"
    ".plot .n.s4,.s4{color:var(--s4)}.plot .n.s5,.s5{color:var(--s5)}.plot .n.s6,.s6{color:var(--s6)}"
    ".plot .k{top:0;padding:0 4px;margin:0 1px;background:var(--card);opacity:.85}.plot .k.l{transform:translateX(-100%)}"
    ".g{stroke:var(--line)}.m{stroke:var(--dim);stroke-dasharray:4 4}"
    ".plot .c{stroke:currentColor;stroke-width:1.75;stroke-linejoin:round;stroke-linecap:round}.plot .thin{stroke-width:1;opacity:.4}.plot .d1{stroke-dasharray:7 4}.plot .d2{stroke-dasharray:1.5 4}"
    ".plot .e{fill:currentColor;fill-opacity:.16}.plot .p{stroke:currentColor;stroke-width:7;stroke-linecap:round}"
    ".plot i{position:absolute;top:0;bottom:0}.plot i>span,.plot i>em{display:none}"
    ".plot i:hover>span,.plot i:hover>em{display:block;position:absolute;pointer-events:none}.plot em{top:0;bottom:0;border-left:1px solid var(--dim)}"
    ".plot i>span{z-index:2;top:8px;left:calc(50% + 10px);padding:6px 10px;border:1px solid var(--line);border-radius:7px;background:var(--card);color:var(--fg);"
    "box-shadow:var(--shade);white-space:nowrap;font-style:normal;line-height:17px}.plot i.l>span{left:auto;right:calc(50% + 10px)}"
    ".plot s{display:inline-block;width:9px;height:9px;border-radius:5px;margin-right:6px;background:currentColor}"
    /* rows */
    ".bars{font-size:13px;line-height:16px}.bars.many{columns:260px;column-gap:28px}"
    ".r{display:grid;grid-template-columns:minmax(84px,24%) 1fr;gap:12px;align-items:center;padding:3px 0;break-inside:avoid}"
    ".nm{overflow:hidden;text-overflow:ellipsis;white-space:nowrap}.nm i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-right:8px}"
    ".r .g{display:grid;grid-template-columns:1fr 46px;gap:2px 8px;align-items:center}.tr{background:var(--line);border-radius:3px;height:11px}"
    ".tr b{display:block;height:100%;border-radius:3px;background:currentColor}.v{text-align:right;font-variant-numeric:tabular-nums}"
    ".dots{position:relative;height:24px;border-bottom:1px solid var(--line);margin:0 18px 0 6px}.dots b{position:absolute}"
    ".dot{top:7px;width:11px;height:11px;margin-left:-6px;border-radius:6px;background:currentColor;border:1.5px solid var(--card)}.mean{top:2px;bottom:2px;border-left:2.5px solid}"
    ".axis{height:0;border:0;margin-bottom:22px}.axis .x{font-weight:400;font-size:11.5px;color:var(--dim);margin-top:0}"
    ".keys{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:13px;margin:10px 0 0}"
    ".k i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:6px;vertical-align:-1px;background:currentColor}.keys .k{color:inherit}.k>i{flex:none}"
    /* the confusion matrix */
    ".matrix{display:grid;grid-template-columns:auto minmax(300px,1fr);gap:28px;align-items:start}.matrix .worst{font-size:13.5px}.worst td,.worst th{padding:4px 12px}"
    ".matrix.one{grid-template-columns:minmax(0,1fr)}.one .wide{max-height:80vh;overflow:auto}@media(max-width:900px){.matrix{grid-template-columns:minmax(0,1fr)}}"
    ".cm{display:block;max-width:100%;height:auto}.cm.many{max-width:none}.cm rect{fill:currentColor}.cm g:hover rect{stroke:var(--fg);stroke-width:1.5}"
    ".cm text{font:11px system-ui,sans-serif;fill:var(--fg);text-anchor:middle;pointer-events:none}.cm .in{fill:var(--card);font-weight:600}.cm .row{text-anchor:end}.cm .col{text-anchor:start}"
    ".cm.many .row,.cm.many .col{font-size:18px}.cm .g{fill:none;stroke:var(--line)}"
    /* pictures */
    ".row{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(44%,180px),1fr));gap:10px;margin:0 0 14px}"
    ".row img{width:100%;display:block;border-radius:5px;image-rendering:pixelated;background:var(--line)}"
    ".row figcaption{font-size:12.5px;color:var(--dim);padding-top:3px}"
    ".ramp{display:inline-block;width:90px;height:12px;border-radius:3px;vertical-align:-1px;margin:0 6px}"
    "summary{cursor:pointer;margin:12px 0}pre{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px;overflow-x:auto;font-size:12.5px}"
    "@media(max-width:560px){main{padding:20px 14px 40px}.chart,.card{padding:12px}h1{font-size:22px}}";
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

void page_cell(Str *out, double v) {
    str_add(out, "<td>");
    page_percent(out, v, "");
}

void page_tile(Str *out, const char *name, const char *text) {
    str_add(out, "<div class=tile><b>");
    str_escape_html(out, text);
    str_add(out, "</b><span class=dim>");
    str_escape_html(out, name);
    str_add(out, "</span></div>");
}

void page_key(Str *out, const uint8_t rgb[3], const char *text) {
    str_addf(out, "<span class=k><i style='background:rgb(%d,%d,%d)'></i>", rgb[0], rgb[1], rgb[2]);
    str_escape_html(out, text);
    str_add(out, "</span>");
}

/* dst: one pixel for factor x factor ones from (y, x) on, as far as there are some. */
static void shrink_pixel(uint8_t *dst, const uint8_t *rgb, int h, int w, int y, int x, int factor) {
    const int bottom = y + factor < h ? y + factor : h, right = x + factor < w ? x + factor : w;
    for (int c = 0; c < 3; c++) {
        int sum = 0;
        for (int i = y; i < bottom; i++)
            for (int j = x; j < right; j++) sum += rgb[3 * ((int64_t)i * w + j) + c];
        dst[c] = (uint8_t)(sum / ((bottom - y) * (right - x)));
    }
}

uint8_t *page_shrink(const uint8_t *rgb, int h, int w, int side, bool average, int *out_h,
                     int *out_w) {
    const int factor = ((h > w ? h : w) + side - 1) / side, from = average ? 0 : factor / 2;
    const int sh = *out_h = h / factor ? h / factor : 1, sw = *out_w = w / factor ? w / factor : 1;
    uint8_t *out = xcalloc((size_t)sh * (size_t)sw, 3);
    for (int i = 0; i < sh * sw; i++) {
        const int y = i / sw * factor + from, x = i % sw * factor + from;
        shrink_pixel(out + 3 * i, rgb, h, w, y < h ? y : h - 1, x < w ? x : w - 1,
                     average ? factor : 1);
    }
    return out;
}
