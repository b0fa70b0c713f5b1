/* calibrate.h - the plan of a frozen net in 8-bit integers, and how well it agrees with float32. */
#ifndef RETORT_TRAIN_CALIBRATE_H
#define RETORT_TRAIN_CALIBRATE_H
#include "train/trainer_priv.h"

typedef struct Agreement {
    int    images;
    double equal;                    /* share of the pixels, at full size, whose best class is the same */
    double kl;                       /* mean KL(float32 || 8 bits) of the classes' probabilities, per place of the logits' grid */
    double easiness;                 /* rank correlation of exp(-KL(aux || main)), RDD's first stage; NaN: no auxiliary head among the outputs */
    double moved;                    /* share of the labelled pixels that are hard (label's probability at most 0.7, RDD's theta) in one of both only; NaN: no labels */
    double hard;                     /* of the pixels hard in either, the share hard in both; NaN where none is */
} Agreement;
/* Makes the plan that `spec` describes, in 8-bit integers with ranges seen on the images. Both depend on the net and
 * the images alone, and are remembered per machine. The logits must be among spec's outputs, the image and its rectangles its inputs. */
Err calibrate(Net *n, const ModelNodes *m, const PlanSpec *spec, const Batch *images, Plan **out, Agreement *agreement);
/* Sets equal, moved and hard. exact, rounded: logits of all images, each of them as `one`, 1 x K x h x w. */
void agreement_pixels(const float *exact, const float *rounded, Shape one, const Batch *images, Agreement *out);
/* n samples of the training set as training sees them, spread over the list; d NULL: noise. batch_free frees them. */
Err calibration_images(Dataset *d, const DataOptions *o, uint64_t seed, int n, Batch *out);
void calibration_free(Batch *b);
#endif
