/* export.h - the parts of `retort export`: running the written file, comparing it, describing it. */
#ifndef RETORT_CLI_EXPORT_H
#define RETORT_CLI_EXPORT_H
#include "backend/plan.h"
#include "cli/open_model.h"
#include "models/export.h"

/* ---- export_run.c: the written file as a function of one RGB image, by whoever can run it ---- */
typedef struct ExportRunner ExportRunner;
/* ONNX Runtime of `python` (NULL: python3, when it has onnxruntime; "none": do not look for it), otherwise
 * this program's own reader. A python that is named must have it: E2000. */
Err  export_runner_open(const char *path, const ExportOptions *o, const char *python, ExportRunner **out);
const char *export_runner_name(const ExportRunner *r);           /* "ONNX Runtime 1.17.0" */
/* *out, lent until the next run: float32 logits 1 x K x h x w, or int64 classes 1 x H x W. */
Err  export_runner_run(ExportRunner *r, const uint8_t *rgb, int h, int w, Tensor *out);
void export_runner_close(ExportRunner *r);

/* ---- export_check.c ---- */
/* The network itself, giving what the file gives, but logits (full size) where that gives classes. */
typedef struct Reference { const OpenModel *m; Node out; Plan *plan; float *image; int h, w; } Reference;
void reference_open(const OpenModel *m, ExportOutput output, Reference *out);
Err  reference_run(Reference *r, const uint8_t *rgb, int h, int w, const float **out, Shape *shape);   /* lent */
void reference_close(Reference *r);
/* Sample i of d as the exported network takes it: cut or padded to a fixed size. */
Err  export_sample(Dataset *d, int i, const ExportOptions *o, Sample *out);
/* The data set of the options, or drawn pictures where there is none. */
Err  export_samples(const Config *c, const char *split, Dataset **out);
/* Compare on at most max images (0: all) of d and print; of 8 bits the loss per class. E8000 when less than
 * 99.9 % of the pixels of a float32 file are equal. */
Err  export_check(const OpenModel *m, const ExportOptions *o, const char *path, Dataset *d, int64_t max);
/* Ranges of the values that 8 bits keep, on n images of d; caller frees *out. */
Err  export_calibrate(const OpenModel *m, const ExportOptions *o, Dataset *d, int n, ExportRange **out);

/* ---- export_notes.c ---- */
enum { NOTES_MAX = 32 };
typedef struct ExportNotes { Arena *arena; MetaPair pair[NOTES_MAX]; int n, n_own; } ExportNotes;
/* What goes into the metadata: model, weights, classes, palette, normalisation, training_state, version. Behind
 * those (n_own) what the run's file says, and its configuration, by which this program opens the file again. */
Err  export_notes_open(const OpenModel *m, ExportNotes *out);
void export_notes_close(ExportNotes *n);
/* The file beside the ONNX one: how images go in, what comes out, one pair of both. */
Err  export_json(const OpenModel *m, const ExportOptions *o, const ExportNotes *notes, Dataset *samples, const char *onnx, const char *path);
#endif
