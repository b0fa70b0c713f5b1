/* scenes.c - street-like pictures with exact labels, drawn by the program; nothing to download.
 *
 * Sample i of a split is a function of (data.seed, split, i) and the size alone. The classes are
 * CamVid's. They are hard in the way real streets are: most things are far and small, poles are a
 * pixel wide, things hide each other, four kinds of light, shadows, haze and sensor noise move the
 * colours of every class, and colours and textures are shared between classes (asphalt and slabs,
 * boards and cars and jackets, walls and fences), so that context must tell. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/scene_paint.h"

enum {
    DEFAULT_H = 96,
    DEFAULT_W = 128,
    DEFAULT_TRAIN = 240,
    DEFAULT_VAL = 48,
    DEFAULT_TEST = 60,
    SIDE_MIN = 32,
    SIDE_MAX = 4096,
    COUNT_MAX = 1000000,
    VERSION = 1
}; /* of the drawing: part of the fingerprint */
typedef struct {
    uint64_t seed, split;
    int h, w;
} Scenes;

static int or_default(int value, int other) {
    return value > 0 ? value : other;
}

static Err scenes_open(Dataset *d, const DataOptions *o, const char *split) {
    static const char *const splits[] = {"train", "val", "test"};
    const int counts[] = {or_default(o->scenes_train, DEFAULT_TRAIN),
                          or_default(o->scenes_val, DEFAULT_VAL),
                          or_default(o->scenes_test, DEFAULT_TEST)};
    int k = 0;
    while (k < 3 && strcmp(split, splits[k])) k++;
    if (k == 3)
        return err_set(E(EXIT_DATA, 30),
                       "scenes: 0 pairs found for split \"%s\"; it has train, val and test", split);
    Scenes *s = arena_alloc(d->arena, sizeof *s);
    *s = (Scenes){o->seed, (uint64_t)k, or_default(o->scenes_h, DEFAULT_H),
                  or_default(o->scenes_w, DEFAULT_W)};
    if (s->h < SIDE_MIN || s->w < SIDE_MIN || s->h > SIDE_MAX || s->w > SIDE_MAX ||
        counts[k] > COUNT_MAX)
        return err_set(
            E(EXIT_USAGE, 76),
            "scenes: %d pictures of %dx%d; data.scenes.size may have sides of %d to %d, and "
            "there may be %d pictures",
            counts[k], s->h, s->w, SIDE_MIN, SIDE_MAX, COUNT_MAX);
    d->impl = s;
    d->n = counts[k];
    d->n_classes = STREET_CLASSES;
    d->class_names = street_names;
    d->palette = street_palette;
    d->names = arena_alloc(d->arena, (size_t)d->n * sizeof *d->names);
    for (int i = 0; i < d->n; i++) d->names[i] = arena_printf(d->arena, "%s_%05d", split, i);
    d->recipe = arena_printf(d->arena, "drawing %d seed %llu size %dx%d", VERSION,
                             (unsigned long long)s->seed, s->h, s->w);
    return OK;
}

/* The order of the draws is part of the pictures: never two of them in one argument list or
 * initialiser, where C leaves the order to the compiler. */

/* Distances spread evenly in their logarithm, so that most things are far and small. */
static float far_z(Dice *d, float lo, float hi) {
    return lo * powf(hi / lo, dice(d));
}

static void furniture(Scene *s) {
    Dice *d = &s->dice;
    for (int side = -1; side <= 1; side += 2) {
        float kerb = side < 0 ? s->road_l : s->road_r, front = side < 0 ? s->front_l : s->front_r,
              out = (float)side;
        float gap = dice_in(d, 10, 26),
              arm = dice_chance(d, 0.6) ? -out * dice_in(d, 0.8f, 2.2f) : 0;
        if (dice_chance(d, 0.8))
            for (float z = dice_in(d, 4, 14); z < 90; z += gap)
                scene_lamp(s, kerb + out * 0.45f, z, arm);
        for (int i = dice_n(d, 4); i > 0; i--) {
            float x = kerb + out * dice_in(d, 0.3f, 1.2f);
            scene_sign(s, x, far_z(d, 5, 45));
        }
        for (int i = dice_chance(d, 0.6) ? dice_n(d, 6) : 0; i > 0; i--) {
            float x = kerb + (front - kerb) * dice_in(d, 0.3f, 1);
            scene_tree(s, x, far_z(d, 7, 60));
        }
        for (int i = dice_n(d, 3); i > 0; i--) /* bollards */
            paint_box(s, (Brush){CLASS_POLE, {0.25f, 0.25f, 0.26f}, far_z(d, 4, 20), 0.1f},
                      kerb + out * 0.35f, kerb + out * 0.47f, 0, 0.95f);
    }
}

static void traffic(Scene *s) {
    Dice *d = &s->dice;
    for (int side = -1; side <= 1; side += 2) { /* parked */
        float x = side < 0 ? s->road_l + 1.0f : s->road_r - 1.0f;
        if (fabsf(x) < 2.3f || dice_chance(d, 0.35)) continue;
        for (float z = dice_in(d, 2.5f, 12); z < 70; z += dice_in(d, 5.2f, 7)) {
            if (z + 5 < s->cross_z0 || z > s->cross_z1) scene_car(s, x, z, dice_chance(d, 0.3));
            if (dice_chance(d, 0.35)) z += dice_in(d, 5, 15);
        }
    }
    for (int i = dice_n(d, 4); i > 0; i--) { /* driving */
        float z = far_z(d, 7, 70), lane = s->road_l < -4.5f && dice_chance(d, 0.5)  ? -3.2f
                                          : s->road_r > 7.5f && dice_chance(d, 0.4) ? 3.2f
                                                                                    : 0;
        scene_car(s, lane + dice_in(d, -0.3f, 0.3f), z, lane < 0);
    }
    if (s->cross_z1 > s->cross_z0 && dice_chance(d, 0.6))
        for (int i = 1 + dice_n(d, 2); i > 0; i--) {
            float x = dice_in(d, -16, 14);
            scene_car_crossing(s, x, dice_in(d, s->cross_z0 + 0.5f, s->cross_z1 - 2));
        }
}

static void people(Scene *s) {
    Dice *d = &s->dice;
    for (int i = 2 + dice_n(d, 9); i > 0; i--) {
        bool left = dice_chance(d, 0.5);
        float a = left ? s->front_l : s->road_r, b = left ? s->road_l : s->front_r;
        float x = dice_chance(d, 0.12) ? dice_in(d, s->road_l, s->road_r)
                                       : dice_in(d, a + 0.3f, b - 0.3f),
              z = far_z(d, 5, 42);
        scene_person(s, x, z);
        if (!dice_chance(d, 0.3)) continue;
        x += dice_in(d, 0.45f, 0.8f);
        scene_person(s, x, z + dice_in(d, -0.3f, 0.3f));
    }
    for (int i = dice_n(d, 4); i > 0; i--) {
        float x = dice_chance(d, 0.7) ? s->road_r - dice_in(d, 0.4f, 1.4f)
                                      : dice_in(d, s->front_l, s->road_r);
        scene_cyclist(s, x, far_z(d, 5, 32));
    }
}

static void fences(Scene *s) {
    Dice *d = &s->dice;
    for (int i = dice_n(d, 4); i > 0; i--) {
        bool left = dice_chance(d, 0.5), at_kerb = dice_chance(d, 0.45);
        float x = left ? (at_kerb ? s->road_l - 0.25f : s->front_l + 0.4f)
                       : (at_kerb ? s->road_r + 0.25f : s->front_r - 0.4f);
        float z = far_z(d, 2, 30), end = z + dice_in(d, 5, 22);
        if (z < s->cross_z1 && end > s->cross_z0) continue; /* not across the side street */
        scene_fence(s, x, z, end);
        if (dice_chance(d, 0.3)) scene_fence_front(s, left ? x - 6 : x, left ? x : x + 6, end);
    }
}

static Scene scene_open(const Scenes *o, int i) {
    Scene s = {.h = 2 * o->h,
               .w = 2 * o->w,
               .dice = {rng_stream(o->seed, RNG_SCENES, o->split, (uint64_t)i), 0}};
    size_t pixels = (size_t)s.h * (size_t)s.w;
    s.rgb = xcalloc(pixels, sizeof *s.rgb);
    s.depth = xcalloc(pixels, sizeof *s.depth);
    s.label = xcalloc(pixels, sizeof *s.label);
    for (size_t p = 0; p < pixels; p++) s.depth[p] = SKY_Z;
    s.seed = rng_u32(&s.dice.rng, s.dice.i++);
    return s;
}

static Err scenes_read(Dataset *d, int i, Sample *out) {
    const Scenes *o = d->impl;
    size_t pixels = (size_t)o->h * (size_t)o->w;
    Scene s = scene_open(o, i);
    scene_light(&s);
    scene_plan(&s);
    people(&s);
    traffic(&s);
    furniture(&s);
    scene_buildings(&s);
    scene_ground(&s); /* knows all shadows now; the depth buffer keeps it beneath things */
    scene_sky(&s);
    fences(&s);
    *out = (Sample){o->h, o->w, xcalloc(pixels, 3), xcalloc(pixels, 1), false};
    scene_develop(&s, out);
    free(s.rgb);
    free(s.depth);
    free(s.label);
    return OK;
}

const DatasetDef dataset_scenes = {
    .name = "scenes",
    .help = "street-like pictures with exact labels, drawn by the program from data.seed",
    .open = scenes_open,
    .read = scenes_read,
};
