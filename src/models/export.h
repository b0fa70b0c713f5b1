/* export.h - a network as an ONNX graph: normalisation inside, batch norm folded into convolutions. */
#ifndef RETORT_MODELS_EXPORT_H
#define RETORT_MODELS_EXPORT_H
#include "io/onnx_write.h"
#include "models/model.h"

typedef enum { EXPORT_LOGITS,        /* N x K x h x w, on the network's own grid */
               EXPORT_LOGITS_FULL,   /* N x K x H x W, enlarged with aligned corners as eval does */
               EXPORT_ARGMAX         /* N x H x W int64: the best class, the lower one of equals */
} ExportOutput;
/* Of a node's value, in 8 bits: lo <= 0 <= hi is what 0 .. 255 spans; hi 0: it stays in float32. */
typedef struct { float lo, hi; } ExportRange;
typedef struct ExportOptions {
    int  opset;                      /* ONNX_WRITE_MIN .. ONNX_WRITE_MAX */
    int  batch, h, w;                /* 0: free; h and w both or neither: then pooling and resizing have fixed sizes */
    ExportOutput output;
    bool bytes;                      /* input is N x H x W x 3 uint8; otherwise N x 3 x H x W float32 of 0..255; both RGB */
    const ExportRange *range;        /* [n_nodes], seen on images: 8-bit weights and values (QDQ); NULL: float32 */
} ExportOptions;

/* Input "image", output "logits" or "labels". Of a network that has sizes in its attributes (imported)
 * h and w must be given. E4060: an op that has no operator in ONNX, or not in this opset. */
Err  model_export(const Net *n, const ModelNodes *nodes, const ExportOptions *o, OnnxWriter **out);
/* Whether each node's value is one that 8-bit export keeps in 8 bits; mark: [n_nodes]. */
void export_quantised(const Net *n, const ModelNodes *nodes, bool *mark);
/* Values that only move others about (max pooling) get their range. */
void export_share_ranges(const Net *n, ExportRange *range);
#endif
