/* export_run.c - see export.h: an ONNX file run by ONNX Runtime in a Python of its own, or by our reader.
 *
 * The Python process says who it is, then answers arrays with arrays, both as 8 int64 (element type 0
 * float32, 1 uint8, 2 int64; rank; six sides) and the elements. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "base/sys.h"
#include "cli/export.h"

static const char script[] =
    "import sys, numpy as np, onnxruntime as ort\n"
    "types = [np.dtype(t) for t in ('float32', 'uint8', 'int64')]\n"
    "take, give = sys.stdin.buffer, sys.stdout.buffer\n"
    "options = ort.SessionOptions()\n"
    "options.log_severity_level = 4\n"
    "options.add_session_config_entry('session.intra_op.allow_spinning', '0')\n"      /* nor burn what others need */
    "s = ort.InferenceSession(sys.argv[1], options, providers=['CPUExecutionProvider'])\n"
    "name = s.get_inputs()[0].name\n"
    "give.write(ort.__version__.encode()[:32].ljust(32, b'\\0'))\n"
    "give.flush()\n"
    "while True:\n"
    "    head = take.read(64)\n"
    "    if len(head) < 64: break\n"
    "    head = np.frombuffer(head, np.int64)\n"
    "    t, shape = types[head[0]], head[2:2 + head[1]]\n"
    "    x = np.frombuffer(take.read(int(np.prod(shape)) * t.itemsize), t).reshape(shape)\n"
    "    y = np.ascontiguousarray(s.run(None, {name: x})[0])\n"
    "    head = np.zeros(8, np.int64)\n"
    "    head[0], head[1], head[2:2 + y.ndim] = types.index(y.dtype), y.ndim, y.shape\n"
    "    give.write(head.tobytes() + y.tobytes())\n"
    "    give.flush()\n";

struct ExportRunner {
    char  *path, name[96];
    bool   bytes;                    /* input is N x H x W x 3 uint8; our reader takes either as N x 3 x H x W float32 */
    int    batch;                    /* images that it takes; all the same one */
    void  *input, *output;
    Child *child;                    /* ONNX Runtime, or NULL: */
    Net   *net;
    ModelNodes nodes;
    Plan  *plan;
    int    h, w;                     /* of the plan */
};

const char *export_runner_name(const ExportRunner *r) { return r->name; }

void export_runner_close(ExportRunner *r) {
    if (!r) return;
    child_close(r->child);
    if (r->plan) plan_close(r->plan);
    net_close(r->net);
    free(r->path), free(r->input), free(r->output);
    free(r);
}

/* ---- ONNX Runtime -------------------------------------------------------------------------------- */

static Err start_python(ExportRunner *r, const char *python) {
    char version[33] = "";
    char *argv[] = {(char *)(uintptr_t)(python ? python : "python3"), "-c",
                    (char *)(uintptr_t)script, r->path, NULL};
    TRY(child_open(argv, &r->child));
    if (child_read(r->child, version, 32))
        return snprintf(r->name, sizeof r->name, "ONNX Runtime %s", version), OK;
    child_close(r->child);
    r->child = NULL;
    return err_set(
        E(EXIT_USAGE, 0),
        "%s: does not load %s in onnxruntime; see what `%s -c \"import onnxruntime\"` says",
        argv[0], r->path, argv[0]);
}
static Err lost(const ExportRunner *r) {
    return err_set(E(EXIT_MODEL, 60), "%s: %s refused it; run it there by hand for the reason",
                   r->path, r->name);
}
static Err run_child(ExportRunner *r, Shape s, Tensor *out) {
    int64_t head[8] = {r->bytes ? 1 : 0, s.rank};
    size_t bytes;
    for (int i = 0; i < s.rank; i++) head[2 + i] = s.d[i];
    CHECK(shape_bytes(s, r->bytes ? DT_U8 : DT_F32, &bytes));
    if (!child_write(r->child, head, sizeof head) || !child_write(r->child, r->input, bytes) ||
        !child_read(r->child, head, sizeof head))
        return lost(r);
    if (head[1] < 0 || head[1] > RANK_MAX || head[0] < 0 || head[0] > 2) return lost(r);
    *out = (Tensor){.name = "output", .dtype = (Dtype[]){DT_F32, DT_U8, DT_I64}[head[0]], .shape = shape_of(head + 2, (int)head[1])};
    if (!shape_bytes(out->shape, out->dtype, &bytes)) return lost(r);
    out->data = r->output = xrealloc(r->output, bytes + 1);
    return child_read(r->child, r->output, bytes) ? OK : lost(r);
}

/* ---- our own reader --------------------------------------------------------------------------------- */

static Err start_reader(ExportRunner *r, const char *why, int h, int w) {
    snprintf(r->name, sizeof r->name, "retort's own reader (%s)", why);
    return model_open(
        &(ModelOptions){.model = r->path, .norm = "none", .frozen = true, .dropout_off = true},
        h ? h : 64, w ? w : 64, &r->net, &r->nodes);
}
static Err run_reader(ExportRunner *r, Shape s, Tensor *out) {
    const int h = (int)s.d[2], w = (int)s.d[3];
    if (r->plan && (r->h != h || r->w != w)) plan_close(r->plan), r->plan = NULL;
    if (!r->plan)
        TRY(plan_make(r->net,
                      &(PlanSpec){.outputs = &r->nodes.logits,
                                  .n_outputs = 1,
                                  .inputs = &r->nodes.image,
                                  .input_shapes = &s,
                                  .n_inputs = 1},
                      &r->plan));
    r->h = h, r->w = w;
    plan_bind(r->plan, r->nodes.image, r->input);
    plan_run(r->plan, &(OpRun){0}, false);
    *out = (Tensor){"output", DT_F32, plan_shape(r->plan, r->nodes.logits), (void *)(uintptr_t)plan_value(r->plan, r->nodes.logits)};
    return OK;
}

/* ---- either ----------------------------------------------------------------------------------------- */

Err export_runner_open(const char *path, const ExportOptions *o, const char *python,
                       ExportRunner **out) {
    ExportRunner *r = xcalloc(1, sizeof *r);
    r->path = xstrdup(path), r->bytes = o->bytes, r->batch = o->batch ? o->batch : 1;
    const bool none = python && !strcmp(python, "none");
    Err rc = none ? OK : start_python(r, python);
    if (none || (rc && !python)) {
        const char *why =
            none ? "python=none" : "python3 has no onnxruntime; python=FILE names another";
        r->bytes = false, rc = start_reader(r, why, o->h, o->w);
    }
    if (rc) return export_runner_close(r), rc;
    return *out = r, OK;
}
Err export_runner_run(ExportRunner *r, const uint8_t *rgb, int h, int w, Tensor *out) {
    const int64_t pixels = (int64_t)h * w;
    const size_t one = (size_t)pixels * 3 * (r->bytes ? 1 : sizeof(float));
    r->input = xrealloc(r->input, one * (size_t)r->batch);
    if (r->bytes) memcpy(r->input, rgb, one);
    else
        for (int64_t c = 0; c < 3; c++)
            for (int64_t i = 0; i < pixels; i++)
                ((float *)r->input)[c * pixels + i] = rgb[3 * i + c];
    for (int k = 1; k < r->batch; k++) memcpy((char *)r->input + (size_t)k * one, r->input, one);
    const Shape s = r->bytes ? SHAPE(r->batch, h, w, 3) : SHAPE(r->batch, 3, h, w);
    TRY(r->child ? run_child(r, s, out) : run_reader(r, s, out));
    if (out->shape.rank && out->shape.d[0] == r->batch) out->shape.d[0] = 1;
    return OK;
}
