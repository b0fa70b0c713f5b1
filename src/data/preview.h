/* preview.h - a contact sheet of what the loader lends: sixteen samples, each beside its label. */
#ifndef RETORT_DATA_PREVIEW_H
#define RETORT_DATA_PREVIEW_H
#include "data/data.h"

enum { PREVIEW_GAP = 4 };            /* px */
/* The first samples of a training with this seed, crops of h x w, as a PNG. */
Err preview_write(Dataset *d, const DataOptions *o, int h, int w, uint64_t seed, const char *path);
#endif
