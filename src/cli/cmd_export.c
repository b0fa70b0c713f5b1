/* cmd_export.c - `retort export MODEL OUT`: a network for other programs.
 *
 * OUT.onnx gets a file OUT.json beside it; OUT.safetensors gets the weights under PyTorch's names. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/sys.h"
#include "cli/export.h"

static const char usage[] =
    "export MODEL OUT.onnx|OUT.safetensors [--check] [--int8] [output=argmax] [size=HxW]\n\n"
    "OUT.onnx: the network from RGB pixels to logits or classes: normalisation is inside,\n"
    "batch norm folded into the convolutions. With size= pooling and resizing have fixed\n"
    "sizes. OUT.json beside it says how images go in and what comes out, with one pair of\n"
    "both. --check runs the file (by ONNX Runtime where there is one) beside the network.\n"
    "--int8 rounds to 8 bits and tells the loss per class.\n"
    "OUT.safetensors: the weights under their PyTorch names, see docs/weights.md.\n"
    "MODEL is a run directory, a file that a run wrote, a file of weights with\n"
    "model=NAME, or the name of a network with weights=.";

/* ---- safetensors ---------------------------------------------------------------------------------- */

static Err write_tensors(const OpenModel *m, const char *path) {
    ExportNotes notes;
    TRY(export_notes_open(m, &notes));
    notes.pair[notes.n++] = (MetaPair){"format", "pt"};
    Tensor *t = xcalloc((size_t)m->net->n_params + 1, sizeof *t);
    for (int i = 0; i < m->net->n_params; i++) {
        NetParam *p = &m->net->params[i];
        const bool count = p->kind == PARAM_COUNT;
        t[i] = (Tensor){p->name, count ? DT_I64 : DT_F32, p->shape,
                        count ? (void *)&p->count : p->data};
    }
    Err rc = st_write(path, t, m->net->n_params, notes.pair, notes.n);
    if (!rc) log_info("wrote %d tensors to %s", m->net->n_params, path);
    free(t);
    export_notes_close(&notes);
    return rc;
}

/* ---- ONNX ------------------------------------------------------------------------------------------ */

static Err options_of(const Config *c, ExportOptions *o) {
    *o = (ExportOptions){.opset = c->export.opset, .batch = c->export.batch, .output = (ExportOutput)c->export.output, .bytes = c->export.input == 1};
    TRY(cli_size(c->size, &o->h, &o->w));
    if (c->export.int8 && o->opset < 13)
        return err_set(E(EXIT_USAGE, 76), "opset=%d: 8-bit weights need 13 or newer", o->opset);
    return OK;
}
static Err write_onnx(const OpenModel *m, const ExportOptions *o, const ExportNotes *notes,
                      const char *path) {
    OnnxWriter *w;
    uint8_t *data = NULL;
    size_t bytes = 0;
    TRY(model_export(m->net, &m->nodes, o, &w));
    for (int i = 0; i < notes->n_own; i++)
        onnx_write_meta(w, notes->pair[i].key, notes->pair[i].value);
    Err rc = onnx_write_pack(w, &data, &bytes);
    if (!rc) rc = durable_write_all(path, data, bytes);
    if (!rc) log_info("wrote %s: %.1f MB, opset %d", path, (double)bytes / 1e6, o->opset);
    free(data);
    onnx_write_close(w);
    return rc;
}
static Err calibrate(const OpenModel *m, ExportOptions *o, ExportRange **range) {
    Dataset *d;
    *range = NULL;
    if (!m->config->export.int8) return OK;
    if (!m->config->data.kind)
        return err_set(E(EXIT_USAGE, 76),
                       "int8: ranges are taken from training images; add data=camvid:DIR");
    TRY(dataset_open_training(&m->config->data, &d));
    Err rc = export_calibrate(m, o, d, m->config->export.calibrate, range);
    o->range = *range;
    dataset_close(d);
    return rc;
}
static Err check(const OpenModel *m, const ExportOptions *o, Dataset *samples, const char *path) {
    enum { SAMPLES = 8 };
    const Config *c = m->config;
    if (!c->export.check && !o->range) return OK;
    return export_check(m, o, path, samples, c->images ? c->images : o->range ? 0 : SAMPLES);
}
static Err write_and_check(const OpenModel *m, ExportOptions *o, const ExportNotes *notes,
                           const char *path) {
    Dataset *samples;
    ExportRange *range;
    char *json = xprintf("%.*s.json", (int)(strlen(path) - strlen(".onnx")), path);
    Err rc = export_samples(m->config, m->config->split ? m->config->split : "val", &samples);
    if (!rc) {
        rc = calibrate(m, o, &range);
        if (!rc) rc = write_onnx(m, o, notes, path);
        if (!rc) rc = export_json(m, o, notes, samples, path, json);
        if (!rc) rc = check(m, o, samples, path);
        free(range);
        dataset_close(samples);
    }
    free(json);
    return rc;
}
static Err export_onnx(const OpenModel *m, const char *path) {
    ExportOptions o;
    ExportNotes notes;
    TRY(options_of(m->config, &o));
    TRY(export_notes_open(m, &notes));
    Err rc = write_and_check(m, &o, &notes, path);
    export_notes_close(&notes);
    return rc;
}

/* ---- the command ----------------------------------------------------------------------------------- */

/* The size decides about the nodes, so it must be known before the network is opened. */
static Err nominal_size(const CliArgs *args, int *h, int *w) {
    Config *c;
    TRY(config_read("export", NULL, args->opt, args->n_opt, &c));
    Err rc = cli_size(c->size, h, w);
    config_close(c);
    return rc;
}
Err cmd_export(int argc, char **argv) {
    CliArgs args;
    TRY(cli_args("export", usage, argc, argv, 2, 2, &args));
    if (args.help) return OK;
    OpenModel m = {0};
    int h = 65, w = 65;
    const char *out = args.word[1];
    const bool onnx = str_ends(out, ".onnx");
    Err rc = onnx || str_ends(out, ".safetensors")
                 ? nominal_size(&args, &h, &w)
                 : err_set(E(EXIT_USAGE, 76),
                           "%s: the name says the format: end it with .onnx or .safetensors", out);
    if (!rc) rc = open_model("export", args.word[0], &args, 0, h, w, &m);
    if (!rc) rc = onnx ? export_onnx(&m, out) : write_tensors(&m, out);
    open_model_close(&m);
    cli_args_close(&args);
    return rc;
}
