/* match.c - see match.h. Names are compared after rewriting by one of the layouts of rules.def; shapes and element
 * types must be equal, except that floats may be of any width and that a count (num_batches_tracked) may be absent
 * (files older than PyTorch 0.4.1) or have one element in any shape. */
#include "models/match.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LISTED = 5, NAME_MAX_BYTES = 256 };               /* names per kind of difference in the report; longest name of ours */

static const struct { const char *layout, *from, *to; } RULES[] = {
#define LAYOUT(title) {.layout = title},
#define RULE(pattern, replacement) {.from = pattern, .to = replacement},
#define UNUSED(pattern) {.from = pattern},
#include "models/rules.def"
#undef LAYOUT
#undef RULE
#undef UNUSED
};
enum { N_RULES = sizeof RULES / sizeof *RULES };

/* ---- names ---------------------------------------------------------------------------------------- */
/* The rest of name behind the pattern, or NULL; star: what stood at `*`. */
static const char *behind(const char *pattern, const char *name, const char **star,
                          size_t *n_star) {
    while (*pattern) {
        const size_t p = strcspn(pattern, "."), q = strcspn(name, ".");
        if (*pattern == '*') *star = name, *n_star = q;
        else if (p != q || memcmp(pattern, name, p)) return NULL;
        pattern += p, name += q;
        if (*pattern && !*name) return NULL;
        pattern += *pattern == '.', name += *name == '.';
    }
    return name;
}
/* The name by the layout at row `at`; NULL: one that is not used. May be cut, and is then no name of ours. */
static const char *rewrite(int at, const char *name, char out[NAME_MAX_BYTES]) {
    while (++at < N_RULES && !RULES[at].layout) {
        const char *star = "", *to = RULES[at].to;
        size_t n_star = 0;
        const char *rest = behind(RULES[at].from, name, &star, &n_star);
        if (!rest) continue;
        if (!to) return NULL;
        const size_t head = strcspn(to, "*");
        snprintf(out, NAME_MAX_BYTES, "%.*s%.*s%s%s%s", (int)head, to,
                 to[head] ? (int)(n_star < 32 ? n_star : 32) : 0, star,
                 to[head] ? to + head + 1 : "", *rest ? "." : "", rest);
        return out;
    }
    return name;
}
bool match_is_backbone(const char *name) { return str_starts(name, "pretrained."); }
static bool is_state(const char *name) {                 /* a checkpoint's own tensors */
    return str_starts(name, "optim/") || str_starts(name, "ema/") || str_starts(name, "state/");
}
static void names_add(Names *l, const char *name, const char *detail) {
    if (l->n++ < LISTED) str_addf(&l->text, "%s%s%s", l->n > 1 ? ", " : "", name, detail);
}

/* ---- pairing -------------------------------------------------------------------------------------- */
bool match_is_float(Dtype t) { return t == DT_F32 || t == DT_F64 || t == DT_F16 || t == DT_BF16; }

bool match_fits(const NetParam *p, const Tensor *t) {
    if (p->kind == PARAM_COUNT) return t->dtype == DT_I64 && shape_count(t->shape) == 1;
    return match_is_float(t->dtype) && shape_equal(t->shape, p->shape);
}
/* How many tensors fit by a layout, and how many it leaves without a use. */
static int count_fits(const Net *n, const TensorList *list, int layout, int *left) {
    int count = 0;
    *left = 0;
    for (int i = 0; i < list->n; i++) {
        char buffer[NAME_MAX_BYTES];
        const char *name = rewrite(layout, list->v[i].name, buffer);
        const int p = name ? net_find_param(n, name) : -1;
        const bool fits = p >= 0 && match_fits(&n->params[p], &list->v[i]);
        count += fits, *left += name && !fits;
    }
    return count;
}
static int best_layout(const Net *n, const TensorList *list, int *count) {
    int best = 0, fewest = 0, left;
    *count = -1;
    for (int at = 0; at < N_RULES; at++) {
        if (!RULES[at].layout) continue;
        const int c = count_fits(n, list, at, &left);
        if (c > *count || (c == *count && left < fewest)) *count = c, fewest = left, best = at;
    }
    return best;
}
void match_names(const Net *n, const TensorList *list, Match *m) {
    int count;
    const int layout = best_layout(n, list, &count);
    *m = (Match){.of = xcalloc((size_t)n->n_params + 1, sizeof *m->of), .layout = RULES[layout].layout};
    for (int i = 0; i < list->n; i++) {
        char buffer[NAME_MAX_BYTES];
        const char *name = rewrite(layout, list->v[i].name, buffer);
        if (!name || is_state(name)) continue;
        const int p = net_find_param(n, name);
        if (p >= 0 && !m->of[p]) m->of[p] = &list->v[i];
        else names_add(&m->extra, list->v[i].name, "");
    }
}
void match_check(const Net *n, Match *m) {
    for (int i = 0; i < n->n_params; i++) {
        const NetParam *p = &n->params[i];
        const Tensor *t = m->of[i];
        const bool inside = match_is_backbone(p->name);
        char detail[256];
        if (!t) {
            if (p->kind == PARAM_COUNT) continue;
            names_add(&m->missing, p->name, "");
            m->missing_inside += inside;
        } else if (match_fits(p, t)) {
            m->matched++;
            m->matched_outside += !inside;
        } else {
            snprintf(detail, sizeof detail, " (%s %s, expected %s)", dtype_name(t->dtype),
                     shape_text(t->shape).s, shape_text(p->shape).s);
            names_add(&m->wrong, p->name, detail);
        }
    }
}
void match_close(Match *m) {
    str_free(&m->missing.text), str_free(&m->extra.text), str_free(&m->wrong.text);
    free(m->of);
    *m = (Match){0};
}

/* ---- what to say ---------------------------------------------------------------------------------- */
static void add_part(Str *s, const char *what, const Names *l) {
    if (!l->n) return;
    str_addf(s, ", %d %s: %s", l->n, what, l->text.s);
    if (l->n > LISTED) str_addf(s, " and %d more", l->n - LISTED);
}
void match_text(const Match *m, int total, Str *s) {
    str_addf(s, "%d of %d tensors match", m->matched, total);
    add_part(s, "missing", &m->missing);
    add_part(s, "extra", &m->extra);
    add_part(s, "of another shape or type", &m->wrong);
}
/* The known network that most of the file's tensors fit; built for this question and thrown away. */
typedef struct Nearest { const char *name; int matched, total; } Nearest;
static Nearest find_nearest(const TensorList *list) {
    enum { NETWORKS_MAX = 64, SIDE = 65 };
    const char *names[NETWORKS_MAX];
    const int n_names = model_names(names, NETWORKS_MAX);
    Nearest best = {0};
    for (int i = 0; i < n_names; i++) {
        const ModelOptions o = {.model = names[i], .classes = 19, .aux = true, .frozen = true};
        Net *n;
        ModelNodes nodes;
        int count;
        if (model_open(&o, SIDE, SIDE, &n, &nodes)) continue;
        best_layout(n, list, &count);
        if (count > best.matched) best = (Nearest){names[i], count, n->n_params};
        net_close(n);
    }
    return best;
}
/* The way for networks that are not known here, whole enough to be pasted. */
static void add_export(Str *s, const SafeFile *f, const char *where) {
    const char *format = st_meta(f, "format"), *path = st_meta(f, "path");
    str_add(
        s,
        "to use a network of your own, export it from its class: model = YourNet(); model.load_state_dict(");
    if (!format || !str_starts(format, "PyTorch"))
        str_addf(s, "safetensors.torch.load_file('%s')", where);
    else {
        str_addf(s, "torch.load('%s', map_location='cpu')", where);
        for (const char *p = path; p && *p; p += strcspn(p, "."), p += *p == '.')
            str_addf(s, "['%.*s']", (int)strcspn(p, "."), p);
    }
    str_add(
        s,
        "); torch.onnx.export(model.eval(), torch.zeros(1, 3, 512, 1024), 'model.onnx', opset_version=17, input_names=['image'], "
        "output_names=['logits'], dynamic_axes={'image': {0: 'n', 2: 'h', 3: 'w'}, 'logits': {0: 'n', 2: 'h', 3: 'w'}}); then give model.onnx");
}
/* A file that has less than half of this network is perhaps another network's, or of none that is known. */
Err match_refuse(const Net *n, const SafeFile *f, const Match *m, const char *where) {
    const Nearest near = 2 * m->matched < n->n_params ? find_nearest(f->tensors) : (Nearest){0};
    const bool backbone =
        m->matched && !m->matched_outside && !m->missing_inside && !m->extra.n && !m->wrong.n;
    Str s = {0};
    if (m->matched) match_text(m, n->n_params, &s);
    else str_addf(&s, "none of its %d tensors is one of %s", f->tensors->n, n->name);
    if (near.matched > m->matched)
        str_addf(&s, "; the nearest known network is %s (%d of its %d tensors)", near.name,
                 near.matched, near.total);
    else if (!near.name && !m->matched)
        str_add(&s, "; they are those of no network that is known here");
    str_add(&s, "; ");
    if (!m->matched) add_export(&s, f, where);
    else if (backbone)
        str_add(
            &s,
            "the file holds a backbone alone, which a student may start from (student.weights), but no whole network");
    else
        str_add(
            &s,
            "use the weights of this network with these classes and heads, or load what fits: student.partial=true, teacher.partial=true");
    Err rc = err_set(E(EXIT_MODEL, 61), "%s: %s", where, s.s);
    str_free(&s);
    return rc;
}
