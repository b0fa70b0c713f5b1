/* side.c - see side.h. The student's net holds frozen copies of the side network's parameters, by which its own
 * gradient passes; after each update of the side network they are renewed. So the copies are what a checkpoint
 * saves, and what a resumed run begins from.
 *
 * Adam as in PyTorch, eps 1e-8, no weight decay; m, v and the count of steps are states of the student's net. */
#include "train/side.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double ADAM_EPS = 1e-8;

Err side_open(Side *s, const Plan *student) {
    KdSide *k = &s->side;
    Shape shapes[SIDE_INPUTS_MAX];
    TRY(net_finish(k->net));
    for (int i = 0; i < k->n; i++) shapes[i] = plan_shape(student, k->from[i]);
    return plan_make(k->net,
                     &(PlanSpec){.training = true,
                                 .loss = k->loss,
                                 .outputs = &k->loss,
                                 .n_outputs = 1,
                                 .inputs = k->to,
                                 .input_shapes = shapes,
                                 .n_inputs = k->n},
                     &s->plan);
}
void side_close(Side *s) {
    if (s->plan) plan_close(s->plan);
    net_close(s->side.net);
    *s = (Side){.plan = NULL};
}

/* The parameter of the student's net that is a copy of p. */
static NetParam *copy_of(const Side *s, Net *student, const NetParam *p) {
    char *name = xprintf("%s.%s", s->side.prefix, p->name);
    const int at = net_find_param(student, name);
    free(name);
    CHECK(at >= 0 && shape_equal(student->params[at].shape, p->shape));
    return &student->params[at];
}
static void copy_params(Side *s, Net *student, bool to_student) {
    Net *own = s->side.net;
    for (int i = 0; i < own->n_params; i++) {
        NetParam *p = &own->params[i];
        if (p->kind == PARAM_COUNT) continue;
        NetParam *q = copy_of(s, student, p);
        memcpy(to_student ? q->data : p->data, to_student ? p->data : q->data,
               (size_t)shape_count(p->shape) * sizeof(float));
    }
    (to_student ? student : own)->version++;
}

void side_run(Side *s, Net *student, const Plan *values, const OpRun *run, bool accumulate) {
    KdSide *k = &s->side;
    if (!s->loaded) copy_params(s, student, false), s->loaded = true;
    for (int i = 0; i < k->n; i++) plan_bind(s->plan, k->to[i], plan_value(values, k->from[i]));
    plan_run(s->plan, run, accumulate);
}

void side_step(Side *s, Net *student, int64_t micro_batches) {
    const KdSide *k = &s->side;
    Net *n = k->net;
    float *m = k->m->data, *v = k->v->data;
    const int64_t t = ++*(int64_t *)k->count->data;
    const double size = k->lr / (1 - pow(k->beta1, (double)t)),
                 root = sqrt(1 - pow(k->beta2, (double)t)), share = 1 / (double)micro_batches;
    for (int64_t i = 0; i < n->n_trainable; i++) {
        const double g = share * (double)n->grads[i];
        m[i] = (float)(k->beta1 * (double)m[i] + (1 - k->beta1) * g);
        v[i] = (float)(k->beta2 * (double)v[i] + (1 - k->beta2) * g * g);
        n->values[i] -= (float)(size * (double)m[i] / (sqrt((double)v[i]) / root + ADAM_EPS));
    }
    n->version++;
    copy_params(s, student, true);
}
