/* export_priv.h - between export.c, which walks the Net, export_ops.c, one emitter per op, and
 * export_int8.c. */
#ifndef RETORT_MODELS_EXPORT_PRIV_H
#define RETORT_MODELS_EXPORT_PRIV_H
#include "models/export.h"

typedef struct Export {
    const Net  *net;                 /* of the parameters */
    const Net  *sized;               /* of the nodes: for the size that is exported; often net itself */
    Node        logits, image;
    const ExportOptions *o;
    OnnxWriter *w;
    const char **value;              /* [n_nodes]: the name of each value; NULL: not there (yet) */
    int        *uses;                /* [n_nodes]: consumers among what the logits need; 0: not needed */
    bool        fixed;               /* all sizes are known */
} Export;

/* ---- writing, export_ops.c ---- */
#define ATTR_INT(key, v) {.name = key, .kind = ONNX_INT, .i = v}
#define ATTR_REAL(key, v) {.name = key, .kind = ONNX_FLOAT, .f = v}
#define ATTR_TEXT(key, v) {.name = key, .kind = ONNX_STRING, .s = v}
#define ATTR_INTS(key, v) {.name = key, .kind = ONNX_INTS, .ints = v, .n = (int)(sizeof(v) / sizeof *(v))}
#define INPUTS(...) (const char *const[]){__VA_ARGS__}, (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))
#define ATTRS(...) (const OnnxAttr[]){__VA_ARGS__}, (int)(sizeof((const OnnxAttr[]){__VA_ARGS__}) / sizeof(OnnxAttr))
#define NO_ATTRS NULL, 0
Err  export_op(Export *e, int id);                   /* writes node id; sets value[id] */
typedef struct ExportRow { const OpDef *op; Err (*emit)(Export *e, int id); } ExportRow;
extern const ExportRow export_imported_rows[];       /* export_imported.c; ends with {0} */

/* ---- what emitters share, export_imported.c ---- */
const NetNode *export_node(const Export *e, int id);
const char *export_name(const Export *e, int id);    /* what its value should be called */
const char *export_src(const Export *e, int id, int i);          /* the name of its source i */
const NetParam *export_param(const Export *e, int id, int i);
void export_put1(Export *e, int id, const char *op, const OnnxAttr *attr, int n_attr);   /* value[id] = op(source 0) */
const char *export_put2(Export *e, int id, const char *op, const char *a, const char *b); /* value[id] = op(a, b) */
const char *export_number(Export *e, const char *name, double v);
Err  export_refuse(const Export *e, int id, const char *why);
const char *export_floats(Export *e, const char *name, Shape s, const float *v);
const char *export_ints(Export *e, const char *name, const int64_t *v, int n);
/* The value of node src at h x w where sizes are fixed or like is NULL, otherwise at the sides of `like`. */
const char *export_resize(Export *e, const char *name, int src, const char *like, int64_t h, int64_t w, const ResizeAttr *a);
int  export_absorbed_by(const Export *e, int conv);  /* the batch norm that conv is folded into, or 0 */

/* ---- 8 bits, export_int8.c ---- */
bool export_is_int8(const Export *e, int id);        /* its value is kept in 8 bits */
bool export_is_classifier(const Export *e, int id);  /* stays in float32 */
const char *export_int8_value(Export *e, int id, const char *value);         /* QuantizeLinear, DequantizeLinear */
/* Weights O x I x kh x kw in 8 bits per output, bias in 32, for an input of this range; both dequantised. */
void export_int8_weights(Export *e, const char *name, ExportRange src, Shape s, const float *weight, const float *bias, const char *out[2]);
#endif
