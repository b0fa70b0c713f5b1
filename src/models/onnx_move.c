/* onnx_move.c - the operators that move elements about, and those that leave them as they are. */
#include <inttypes.h>
#include <string.h>

#include "graph/ops/strides.h"
#include "models/onnx_ops.h"

Err onnx_same(OnnxBuild *b, const OnnxNode *n) { return ob_out(b, 0, ob_src(b, 0)), OK; }
Err onnx_cast(OnnxBuild *b, const OnnxNode *n) {
    const int64_t to = ob_int(n, "to", 1);
    if (to != 1 && to != 10 && to != 11 && to != 16)
        return ob_refuse(b, "of a computed value to type %" PRId64, to);
    return onnx_same(b, n);
}
Err onnx_cast_like(OnnxBuild *b, const OnnxNode *n) {
    const Tensor *like = ob_constant(b, 1);
    if (like && like->dtype != DT_F32) return ob_refuse(b, "of a computed value to whole numbers");
    return onnx_same(b, n);
}
/* Dropout acts in training again, whatever mode the file was exported in. */
Err onnx_dropout(OnnxBuild *b, const OnnxNode *n) {
    float p = ob_float(n, "ratio", 0.5f);
    if (ob_given(b, 1) && !ob_single(b, 1, &p)) return ob_refuse(b, "its ratio is computed");
    const DropoutAttr a = {p};
    return ob_out(b, 0,
                  b->net->dropout_off ? ob_src(b, 0)
                                      : ob_add1(b, &op_dropout, &a, sizeof a, ob_src(b, 0))),
           OK;
}
/* Shape and Size of a node: constants. Shape may cut out a part (opset 15). */
Err onnx_shape(OnnxBuild *b, const OnnxNode *n) {
    const Shape s = ob_shape(b, 0);
    const bool size = n->op[1] == 'i';
    int64_t start = ob_int(n, "start", 0), end = ob_int(n, "end", s.rank);
    if (start < 0) start += s.rank;
    if (end < 0) end += s.rank;
    if (start < 0) start = 0;
    if (end > s.rank) end = s.rank;
    Tensor *t;
    TRY(ob_tensor(b, DT_I64, size ? (Shape){0} : SHAPE(end > start ? end - start : 0), &t));
    int64_t *v = t->data;
    if (size) *v = shape_count(s);
    else for (int64_t i = start; i < end; i++) v[i - start] = s.d[i];
    return ob_out_constant(b, 0, t), OK;
}

/* ---- shapes and orders --------------------------------------------------------------------------------- */

Err onnx_reshape(OnnxBuild *b, const OnnxNode *n) {
    Shape to;
    TRY(onnx_reshaped(b, ob_shape(b, 0), &to));
    return ob_out(b, 0, ob_reshape(b, ob_src(b, 0), to)), OK;
}
Err onnx_transpose(OnnxBuild *b, const OnnxNode *n) {
    int perm[RANK_MAX];
    TRY(onnx_perm(b, ob_shape(b, 0).rank, perm));
    return ob_out(b, 0, ob_transpose(b, ob_src(b, 0), perm)), OK;
}
/* Pixel shuffles: N x (b b C) x H x W <-> N x C x (H b) x (W b); DCR: blocks outermost, CRD: channels outermost. */
Err onnx_shuffle(OnnxBuild *b, const OnnxNode *n) {
    const Shape s = ob_shape(b, 0);
    const int64_t k = ob_int(n, "blocksize", 0), kk = k * k;
    const bool to_space = n->op[0] == 'D',
               channels_first = !strcmp(ob_string(n, "mode", "DCR"), "CRD");
    static const int DCR[] = {0, 3, 4, 1, 5, 2}, CRD[] = {0, 1, 4, 2, 5, 3},
                     BACK[] = {0, 3, 5, 1, 2, 4};
    if (s.rank != 4 || k < 1 || k > INT16_MAX ||
        (to_space ? s.d[1] % kk : s.d[2] % k || s.d[3] % k))
        return ob_refuse(b, "blocks of %" PRId64 " in %s", k, shape_text(s).s);
    Node x = ob_src(b, 0);
    if (to_space) {
        const int64_t C = s.d[1] / kk;
        x = ob_reshape(b, x,
                       channels_first ? SHAPE(s.d[0], C, k, k, s.d[2], s.d[3])
                                      : SHAPE(s.d[0], k, k, C, s.d[2], s.d[3]));
        x = ob_transpose(b, x, channels_first ? CRD : DCR);
        return ob_out(b, 0, ob_reshape(b, x, SHAPE(s.d[0], C, s.d[2] * k, s.d[3] * k))), OK;
    }
    x = ob_transpose(b, ob_reshape(b, x, SHAPE(s.d[0], s.d[1], s.d[2] / k, k, s.d[3] / k, k)),
                     BACK);
    return ob_out(b, 0, ob_reshape(b, x, SHAPE(s.d[0], s.d[1] * kk, s.d[2] / k, s.d[3] / k))), OK;
}

/* ---- parts ------------------------------------------------------------------------------------------------ */

Err onnx_cut(OnnxBuild *b, const OnnxNode *n) {
    OnnxSlice c;
    SliceAttr a = {.shape = {0}};
    TRY(onnx_slice(b, ob_shape(b, 0), &c));
    a.shape = c.shape;
    memcpy(a.start, c.start, sizeof a.start), memcpy(a.step, c.step, sizeof a.step);
    return ob_out(b, 0, ob_add1(b, &op_slice, &a, sizeof a, ob_src(b, 0))), OK;
}
/* Sizes: an attribute before opset 13, then an input; none: equal parts, the last one may be smaller. */
Err onnx_split(OnnxBuild *b, const OnnxNode *n) {
    enum { PARTS_MAX = 1024 };
    const Shape s = ob_shape(b, 0);
    const OnnxAttr *given = onnx_attr(n, "split");
    int64_t size[PARTS_MAX];
    int axis, count;
    TRY(ob_axis(b, ob_int(n, "axis", 0), s.rank, &axis));
    TRY(ob_ints(b, 1, size, PARTS_MAX, &count));
    if (n->n_out < 1 || n->n_out > PARTS_MAX) return ob_refuse(b, "into %d parts", n->n_out);
    if (count < 0 && given && given->kind == ONNX_INTS && given->n == n->n_out)
        memcpy(size, given->ints, (size_t)(count = given->n) * sizeof *size);
    const int64_t each = (s.d[axis] + n->n_out - 1) / n->n_out;
    if (count >= 0 && count != n->n_out)
        return ob_refuse(b, "%d sizes for %d parts", count, n->n_out);
    SliceAttr a = {.shape = s};
    Node part[PARTS_MAX];
    for (int i = 0; i < s.rank; i++) a.step[i] = 1;
    for (int i = 0; i < n->n_out; i++) {
        const int64_t rest = s.d[axis] - a.start[axis];
        a.shape.d[axis] = count >= 0 ? size[i] : each < rest ? each : rest;
        if (a.shape.d[axis] < 1 || a.shape.d[axis] > rest)
            return ob_refuse(b, "a part of %" PRId64 " of %s", a.shape.d[axis], shape_text(s).s);
        part[i] = ob_add1(b, &op_slice, &a, sizeof a, ob_src(b, 0));
        a.start[axis] += a.shape.d[axis];
    }
    for (int i = 0; i < n->n_out; i++) ob_out(b, i, part[i]);       /* behind all: ob_add names each as the first */
    return OK;
}
/* Outer, chosen and inner dimensions of an axis as three. */
static Shape three_dims(Shape s, int axis) {
    Shape t = SHAPE(1, s.d[axis], 1);
    for (int i = 0; i < s.rank; i++)
        if (i != axis) t.d[i < axis ? 0 : 2] *= s.d[i];
    return t;
}
Err onnx_gather(OnnxBuild *b, const OnnxNode *n) {
    const Shape s = ob_shape(b, 0);
    const Tensor *index = ob_constant(b, 1);
    int axis;
    if (!index || index->dtype != DT_I64)
        return ob_refuse(b, "its indices are computed; export without them");
    TRY(ob_axis(b, ob_int(n, "axis", 0), s.rank, &axis));
    const int64_t count = shape_count(index->shape);
    Shape to = {.rank = s.rank - 1 + index->shape.rank};
    if (to.rank > RANK_MAX || count < 1 || count > INT32_MAX)
        return ob_refuse(b, "indices of shape %s", shape_text(index->shape).s);
    for (int i = 0; i < axis; i++) to.d[i] = s.d[i];
    for (int i = 0; i < index->shape.rank; i++) to.d[axis + i] = index->shape.d[i];
    for (int i = axis + 1; i < s.rank; i++) to.d[i - 1 + index->shape.rank] = s.d[i];
    int *which = arena_alloc(b->net->arena, (size_t)count * sizeof *which);
    for (int64_t i = 0; i < count; i++) {
        const int64_t at = ((const int64_t *)index->data)[i];
        if (at < -s.d[axis] || at >= s.d[axis])
            return ob_refuse(b, "index %" PRId64 " of a dimension of %" PRId64, at, s.d[axis]);
        which[i] = (int)(at < 0 ? at + s.d[axis] : at);
    }
    const GatherAttr a = {(int)count, which};
    const Node x = ob_add1(b, &op_gather_channels, &a, sizeof a,
                           ob_reshape(b, ob_src(b, 0), three_dims(s, axis)));
    return ob_out(b, 0, ob_reshape(b, x, to)), OK;
}

/* ---- more ------------------------------------------------------------------------------------------------- */

/* Sources first .. first + count - 1 behind one another: channels of what is made of three dimensions. */
static Node concat(OnnxBuild *b, const Node *src, int count) {
    Node part[NODE_SRC_MAX];
    int n = 0;
    if (count == 1) return src[0];
    const int each = count <= NODE_SRC_MAX ? 1 : (count + NODE_SRC_MAX - 1) / NODE_SRC_MAX;
    for (int i = 0; i < count; i += each)
        part[n++] = each == 1 ? src[i] : concat(b, src + i, count - i < each ? count - i : each);
    return ob_add(b, &op_concat, NULL, 0, part, n, NULL, 0);
}
Err onnx_concat(OnnxBuild *b, const OnnxNode *n) {
    Shape to = ob_shape(b, 0);
    int axis;
    TRY(ob_axis(b, ob_int(n, "axis", 0), to.rank, &axis));
    Node *src = arena_alloc(b->arena, (size_t)n->n_in * sizeof *src);
    to.d[axis] = 0;
    for (int i = 0; i < n->n_in; i++) {
        const Shape s = ob_shape(b, i);
        Shape rest = s;
        if (s.rank == to.rank) rest.d[axis] = to.d[axis];
        if (!shape_equal(rest, to))
            return ob_refuse(b, "%s does not join %s", shape_text(s).s,
                             shape_text(ob_shape(b, 0)).s);
        src[i] = axis == 1 ? ob_src(b, i) : ob_reshape(b, ob_src(b, i), three_dims(s, axis));
        to.d[axis] += s.d[axis];
    }
    const Node x = concat(b, src, n->n_in);
    return ob_out(b, 0, axis == 1 ? x : ob_reshape(b, x, to)), OK;
}
Err onnx_pad(OnnxBuild *b, const OnnxNode *n) {
    static const char *const MODES[] = {
        [PAD_CONSTANT] = "constant", [PAD_REFLECT] = "reflect", [PAD_EDGE] = "edge"};
    const Shape s = ob_shape(b, 0);
    const char *mode = ob_string(n, "mode", "constant");
    PadAttr a = {.mode = PAD_EDGE + 1};
    int64_t pads[2 * RANK_MAX], axis[RANK_MAX];
    int count, axes, d;
    for (int i = PAD_CONSTANT; i <= PAD_EDGE; i++)
        if (!strcmp(MODES[i], mode)) a.mode = (PadMode)i;
    TRY(ob_ints(b, 1, pads, 2 * RANK_MAX, &count));
    TRY(ob_ints(b, 3, axis, RANK_MAX, &axes));
    if (axes < 0) axes = s.rank;
    else for (int i = 0; i < axes; i++) TRY(ob_axis(b, axis[i], s.rank, &d));
    if (a.mode > PAD_EDGE || count != 2 * axes || axes > s.rank)
        return ob_refuse(b, "mode %s with %d numbers for %s", mode, count, shape_text(s).s);
    if (ob_given(b, 2) && !ob_single(b, 2, &a.value)) return ob_refuse(b, "its value is computed");
    for (int i = 0; i < axes; i++) {
        d = i;
        if (ob_given(b, 3)) TRY(ob_axis(b, axis[i], s.rank, &d));
        a.before[d] = pads[i], a.after[d] = pads[axes + i];
        if (pads[i] < INT16_MIN || pads[i] > INT16_MAX || pads[axes + i] < INT16_MIN ||
            pads[axes + i] > INT16_MAX)
            return ob_refuse(b, "pads by %" PRId64 " and %" PRId64, pads[i], pads[axes + i]);
    }
    TRY(ob_apart(b, a.before[0] || a.after[0]));
    return ob_out(b, 0, ob_add1(b, &op_pad, &a, sizeof a, ob_src(b, 0))), OK;
}
static Node expand(OnnxBuild *b, Node x, Shape to) {
    const ExpandAttr a = {to};
    return ob_add1(b, &op_expand, &a, sizeof a, x);
}
Err onnx_expand(OnnxBuild *b, const OnnxNode *n) {
    Shape want, to;
    size_t bytes;
    TRY(ob_ints(b, 1, want.d, RANK_MAX, &want.rank));
    if (want.rank < 0 || !shape_broadcast(ob_shape(b, 0), want, &to) ||
        !shape_bytes(to, DT_F32, &bytes))
        return ob_refuse(b, "%s does not fill its target", shape_text(ob_shape(b, 0)).s);
    return ob_out(b, 0, expand(b, ob_src(b, 0), to)), OK;
}
Err onnx_tile(OnnxBuild *b, const OnnxNode *n) {
    Shape s = ob_shape(b, 0);
    int64_t times[RANK_MAX];
    int count;
    TRY(ob_ints(b, 1, times, RANK_MAX, &count));
    if (count != s.rank) return ob_refuse(b, "%d repeats for %s", count, shape_text(s).s);
    Node x = ob_src(b, 0);
    for (int i = 0; i < count; i++) {
        const Shape t = three_dims(s, i);
        size_t bytes;
        if (times[i] < 1 || times[i] > INT32_MAX ||
            !shape_bytes(SHAPE(times[i], shape_count(s)), DT_F32, &bytes))
            return ob_refuse(b, "repeats %" PRId64 " times", times[i]);
        if (times[i] == 1) continue;
        x = expand(b, ob_reshape(b, x, SHAPE(t.d[0], 1, t.d[1], t.d[2])),
                   SHAPE(t.d[0], times[i], t.d[1], t.d[2]));
        s.d[i] *= times[i];
        x = ob_reshape(b, x, s);
    }
    return ob_out(b, 0, x), OK;
}
