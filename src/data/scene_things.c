/* scene_things.c - what stands or moves in a street picture: cars, people, cyclists, trees, poles,
 * signs, fences.
 *
 * Colours overlap across classes on purpose (a red sign, car and jacket are the same red; people
 * wear the grey of the walls), so that a small patch rarely tells what it belongs to. */
#include <math.h>

#include "data/scene_paint.h"

/* Paint, cloth and boards draw from one list. */
static Rgb any_colour(Scene *s) {
    static const Rgb list[] = {{0.72f, 0.1f, 0.1f},   {0.12f, 0.2f, 0.5f},  {0.85f, 0.85f, 0.85f},
                               {0.1f, 0.1f, 0.11f},   {0.5f, 0.52f, 0.54f}, {0.3f, 0.32f, 0.34f},
                               {0.14f, 0.34f, 0.22f}, {0.8f, 0.65f, 0.12f}, {0.5f, 0.4f, 0.3f},
                               {0.25f, 0.4f, 0.6f},   {0.55f, 0.3f, 0.22f}, {0.66f, 0.64f, 0.6f}};
    Rgb c = list[dice_n(&s->dice, 12)];
    c = rgb_scale(c, dice_in(&s->dice, 0.75f, 1.2f));
    return (Rgb){c.r * s->light.r, c.g * s->light.g, c.b * s->light.b};
}

static void cast_shadow(Scene *s, float X, float Z, float rx, float rz) {
    if (s->n_shadows == SHADOWS_MAX) return;
    s->shadow[s->n_shadows++] = (Shadow){X - s->sun * rx * 0.6f, Z, rx, rz};
}

static Brush brush(StreetClass label, Rgb c, float z) {
    return (Brush){(uint8_t)label, c, z, 0.12f};
}

/* Height of the roof line along a car, t = 0 at the tail and 1 at the nose; glass lies between t0
 * and t1. */
typedef struct {
    float length, width, tail, roof, bonnet, t0, t1, glass;
} CarShape;
static const CarShape car_shapes[] = {
    {4.4f, 1.78f, 0.95f, 1.45f, 0.85f, 0.14f, 0.70f, 0.92f}, /* saloon */
    {3.9f, 1.72f, 1.40f, 1.50f, 0.88f, 0.03f, 0.72f, 0.95f}, /* hatchback */
    {4.7f, 1.86f, 1.66f, 1.72f, 1.05f, 0.02f, 0.74f, 1.08f}, /* estate, off-road */
    {5.2f, 2.00f, 2.25f, 2.30f, 1.20f, 0.70f, 0.90f, 1.30f}, /* van: windows only in front */
    {9.5f, 2.45f, 2.95f, 3.00f, 2.80f, 0.02f, 0.99f, 1.25f}, /* bus */
};

static float car_top(const CarShape *c, float t) {
    float ramp = 0.1f;
    if (t < c->t0) return c->tail + (c->roof - c->tail) * fmaxf(0, 1 - (c->t0 - t) / ramp);
    if (t > c->t1)
        return c->bonnet + (c->roof - c->bonnet) * fmaxf(0, 1 - (t - c->t1) / (ramp * 1.3f));
    return c->roof;
}

static const CarShape *car_pick(Scene *s) {
    int pick = dice_n(&s->dice, 20);
    return &car_shapes[pick < 7 ? 0 : pick < 13 ? 1 : pick < 17 ? 2 : pick < 19 ? 3 : 4];
}

/* The face turned to the camera: window, lamps, plate, bumper. */
static void car_face(Scene *s, const CarShape *c, Brush b, float X, bool oncoming) {
    float half = c->width / 2, top = fmaxf(c->roof, c->tail);
    Rgb body = b.rgb;
    b.z -= 0.02f;
    b.rgb = rgb_mix((Rgb){0.1f, 0.12f, 0.14f}, s->haze, 0.2f);
    if (c->tail > 1.2f || oncoming)
        paint_box(s, b, X - half * 0.76f, X + half * 0.76f, c->glass + 0.06f, top - 0.14f);
    b.rgb = oncoming ? (Rgb){0.95f, 0.93f, 0.85f} : (Rgb){0.65f + 0.3f * s->dark, 0.06f, 0.05f};
    for (int side = -1; side <= 1; side += 2)
        paint_box(s, b, X + (float)side * half * 0.92f, X + (float)side * half * 0.62f, 0.62f,
                  0.8f);
    b.rgb = (Rgb){0.8f, 0.78f, 0.55f};
    paint_box(s, b, X - 0.26f, X + 0.26f, 0.42f, 0.53f);
    b.rgb = rgb_scale(body, 0.35f);
    paint_box(s, b, X - half * 0.95f, X + half * 0.95f, 0.24f, 0.36f);
}

/* Seen along its length: slices from the far end to the near one, each hiding the one behind but
 * for the side and roof that perspective shows. */
void scene_car(Scene *s, float X, float Z, bool oncoming) {
    const CarShape *c = car_pick(s);
    float half = c->width / 2,
          span = s->focal * (fabsf(X) + half + 1) * (1 / Z - 1 / (Z + c->length));
    int slices = (int)fminf(fmaxf(span * 1.2f, 6), 160);
    Rgb paintwork = any_colour(s), side = rgb_scale(paintwork, X * s->sun > 0 ? s->shade : 0.9f);
    cast_shadow(s, X, Z + c->length / 2, half * 1.3f, c->length * 0.58f);
    for (int i = slices; i >= 0; i--) {
        float along = (float)i / (float)slices, t = oncoming ? 1 - along : along,
              top = car_top(c, t);
        Brush b = brush(CLASS_CAR, i ? side : rgb_scale(paintwork, 0.5f + 0.5f * s->shade),
                        Z + along * c->length);
        bool cabin = top > c->glass + 0.15f && t > c->t0 - 0.08f && t < c->t1 + 0.08f,
             pillar = wrap(t * 9, 3) < 0.3f;
        paint_box(s, b, X - half, X + half, 0.28f, fminf(top, c->glass));
        if (top > c->glass) {
            if (cabin && !pillar && i) b.rgb = (Rgb){0.12f, 0.14f, 0.16f};
            paint_box(s, b, X - half * 0.86f, X + half * 0.86f, c->glass, top - 0.08f);
            b.rgb = rgb_mix(paintwork, s->haze, 0.25f); /* the roof mirrors the sky */
            paint_box(s, b, X - half * 0.82f, X + half * 0.82f, top - 0.08f, top);
        }
        float wheel = fminf(fabsf(t - 0.18f), fabsf(t - 0.8f)) * c->length;
        if (wheel > 0.33f) continue;
        b.rgb = (Rgb){0.05f, 0.05f, 0.055f};
        for (int k = -1; k <= 1; k += 2)
            paint_box(s, b, X + (float)k * half, X + (float)k * (half - 0.22f), 0,
                      0.33f + sqrtf(0.11f - wheel * wheel));
    }
    car_face(s, c, brush(CLASS_CAR, paintwork, Z), X, oncoming);
}

/* Seen from the side, on a crossing street: columns of the same outline. */
void scene_car_crossing(Scene *s, float X, float Z) {
    const CarShape *c = car_pick(s);
    Rgb paintwork = any_colour(s);
    bool flip = dice_chance(&s->dice, 0.5);
    int columns = (int)fmaxf(s->focal * c->length / Z * 1.5f, 4);
    cast_shadow(s, X + c->length / 2, Z + 0.9f, c->length * 0.55f, 1.2f);
    for (int i = 0; i < columns; i++) {
        float along = ((float)i + 0.5f) / (float)columns, t = flip ? 1 - along : along,
              top = car_top(c, t);
        float x0 = X + c->length * (float)i / (float)columns,
              x1 = X + c->length * (float)(i + 1) / (float)columns;
        Brush b = brush(CLASS_CAR, rgb_scale(paintwork, 0.6f + 0.4f * s->shade), Z);
        paint_box(s, b, x0, x1, 0.28f, top);
        b.z -= 0.01f;
        if (t > c->t0 && t < c->t1 && wrap(t * 9, 3) > 0.3f) {
            b.rgb = rgb_mix((Rgb){0.1f, 0.12f, 0.14f}, s->haze, 0.15f);
            paint_box(s, b, x0, x1, c->glass, c->roof - 0.1f);
        }
        float wheel = fminf(fabsf(t - 0.18f), fabsf(t - 0.8f)) * c->length;
        b.rgb = (Rgb){0.05f, 0.05f, 0.055f};
        if (wheel < 0.33f) paint_box(s, b, x0, x1, 0, 0.33f + sqrtf(0.11f - wheel * wheel));
    }
}

static void limb(Scene *s, Brush b, Rgb c, const float at[4], float width) {
    b.rgb = c;
    paint_line(s, b, at, at + 2, width);
}

static Rgb skin_colour(Scene *s) {
    return rgb_mix(rgb_scale((Rgb){0.85f, 0.66f, 0.54f}, s->light.g), (Rgb){0.32f, 0.2f, 0.14f},
                   dice(&s->dice));
}

void scene_person(Scene *s, float X, float Z) {
    Dice *d = &s->dice;
    float H = dice_chance(d, 0.15) ? dice_in(d, 1.0f, 1.4f) : dice_in(d, 1.55f, 1.92f),
          step = dice_in(d, 0, 0.28f), lean = dice_in(d, -0.04f, 0.04f);
    float hip = 0.5f * H, neck = 0.82f * H, wide = dice_in(d, 0.34f, 0.52f);
    Rgb top = any_colour(s), legs = rgb_scale(any_colour(s), 0.6f), skin = skin_colour(s);
    Brush b = brush(CLASS_PEDESTRIAN, legs, Z);
    cast_shadow(s, X, Z, 0.45f, 0.5f);
    limb(s, b, legs, (float[]){X, hip, X - step, 0.04f}, 0.17f);
    limb(s, b, legs, (float[]){X, hip, X + step, 0.04f}, 0.17f);
    limb(s, b, top, (float[]){X, hip - 0.05f * H, X + lean, neck - 0.1f}, wide);
    limb(s, b, rgb_scale(top, 0.8f),
         (float[]){X - wide * 0.5f, neck - 0.1f, X - wide * 0.5f - step * 0.5f, hip - 0.02f},
         0.12f);
    limb(s, b, rgb_scale(top, 0.8f),
         (float[]){X + wide * 0.5f, neck - 0.1f, X + wide * 0.5f + step * 0.5f, hip - 0.02f},
         0.12f);
    b.rgb = skin, b.z -= 0.01f;
    paint_disc(s, b, X + lean, neck + 0.08f * H, 0.1f, 0.12f);
    b.rgb = rgb_scale(any_colour(s), 0.4f);
    paint_box(s, b, X + lean - 0.1f, X + lean + 0.1f, neck + 0.11f * H, neck + 0.17f * H);
    if (!dice_chance(d, 0.3)) return;
    b.rgb = any_colour(s); /* a bag */
    paint_box(s, b, X + wide * 0.4f, X + wide * 0.4f + 0.25f, hip - 0.1f, hip + 0.25f);
}

/* Wheels seen at an angle; from behind they are nearly lines. */
void scene_cyclist(Scene *s, float X, float Z) {
    Dice *d = &s->dice;
    float turn = dice_chance(d, 0.45) ? dice_in(d, 0.6f, 1) : dice_in(d, 0.05f, 0.35f),
          half = 0.52f * turn, fwd = dice_chance(d, 0.5) ? 1 : -1;
    Rgb top = any_colour(s), frame = any_colour(s), tyre = {0.06f, 0.06f, 0.07f};
    Brush b = brush(CLASS_CYCLIST, tyre, Z);
    cast_shadow(s, X, Z, 0.5f + half, 0.6f);
    for (int k = -1; k <= 1; k += 2)
        for (int a = 0; a < 12; a++) {
            float p = (float)a * 0.5236f, q = p + 0.5236f, r = 0.33f, x = X + (float)k * half;
            limb(s, b, tyre,
                 (float[]){x + r * turn * cosf(p), 0.35f + r * sinf(p), x + r * turn * cosf(q),
                           0.35f + r * sinf(q)},
                 0.05f);
        }
    limb(s, b, frame, (float[]){X - half, 0.35f, X, 0.75f}, 0.05f);
    limb(s, b, frame, (float[]){X + half, 0.35f, X, 0.75f}, 0.05f);
    limb(s, b, frame, (float[]){X + fwd * half * 0.8f, 0.4f, X + fwd * half * 0.7f, 1.05f}, 0.05f);
    b.z -= 0.02f;
    float shoulder = X + fwd * half * 0.45f;
    Rgb legs = rgb_scale(any_colour(s), 0.6f);
    limb(s, b, legs, (float[]){X - fwd * half * 0.2f, 0.95f, X + fwd * half * 0.25f, 0.62f}, 0.17f);
    limb(s, b, legs, (float[]){X + fwd * half * 0.25f, 0.62f, X, 0.3f}, 0.13f);
    limb(s, b, top, (float[]){X - fwd * half * 0.2f, 0.98f, shoulder, 1.45f}, 0.4f - 0.1f * turn);
    limb(s, b, rgb_scale(top, 0.85f), (float[]){shoulder, 1.42f, X + fwd * half * 0.75f, 1.08f},
         0.11f);
    b.z -= 0.01f;
    b.rgb = skin_colour(s);
    paint_disc(s, b, shoulder + fwd * half * 0.15f, 1.64f, 0.1f, 0.12f);
    b.rgb = any_colour(s);
    if (dice_chance(d, 0.6))
        paint_box(s, b, shoulder + fwd * half * 0.15f - 0.11f,
                  shoulder + fwd * half * 0.15f + 0.11f, 1.68f, 1.78f);
}

static void bare_branches(Scene *s, Brush b, float X, float H, float r) {
    for (int i = 0; i < 14; i++) {
        float y = H * dice_in(&s->dice, 0.35f, 0.75f), a = dice_in(&s->dice, -1, 1);
        paint_line(s, b, (float[]){X, y}, (float[]){X + a * r, y + dice_in(&s->dice, 0.3f, 1) * r},
                   0.05f);
    }
}

void scene_tree(Scene *s, float X, float Z) {
    Dice *d = &s->dice;
    static const Rgb leaves[] = {{0.22f, 0.36f, 0.12f},
                                 {0.30f, 0.38f, 0.16f},
                                 {0.16f, 0.27f, 0.14f},
                                 {0.45f, 0.38f, 0.14f},
                                 {0.42f, 0.27f, 0.12f}};
    float H = dice_in(d, 3.5f, 9.5f), r = H * dice_in(d, 0.22f, 0.36f),
          trunk = dice_in(d, 0.14f, 0.38f), y = H - r;
    Rgb bark = rgb_scale((Rgb){0.30f, 0.25f, 0.20f}, s->light.g), c = leaves[dice_n(d, 5)];
    c = rgb_scale(c, s->light.g * dice_in(d, 0.8f, 1.25f));
    Brush b = brush(CLASS_TREE, bark, Z);
    b.rough = 0.5f;
    cast_shadow(s, X, Z, r * 1.1f, r * 1.3f);
    paint_box(s, b, X - trunk / 2, X + trunk / 2, 0, y);
    if (dice_chance(d, 0.15)) {
        paint_box(s, b, X - trunk / 3, X + trunk / 3, y, H);
        bare_branches(s, b, X, H, r);
        return;
    }
    b.rgb = c;
    for (int i = 0; i < 6; i++) {
        float a = dice_in(d, 0, 6.28f), m = dice_in(d, 0.1f, 0.6f), part = dice_in(d, 0.5f, 0.8f);
        b.z = Z + dice_in(d, -0.3f, 0.3f);
        paint_leaves(s, b, X + r * m * cosf(a), y + r * m * sinf(a), r * part, r * part);
    }
}

void scene_lamp(Scene *s, float X, float Z, float arm) {
    Dice *d = &s->dice;
    float H = dice_in(d, 4, 8.5f), width = dice_in(d, 0.09f, 0.2f), grey = dice_in(d, 0.15f, 0.6f);
    Brush b = brush(CLASS_POLE,
                    (Rgb){grey * s->light.r, grey * s->light.g, grey * 1.03f * s->light.b}, Z);
    cast_shadow(s, X, Z, 0.3f, 0.3f);
    paint_box(s, b, X - width / 2, X + width / 2, 0, H);
    paint_box(s, b, X - width, X + width, 0, 0.6f);
    if (arm == 0) return;
    paint_line(s, b, (float[]){X, H}, (float[]){X + arm, H + 0.3f}, 0.09f);
    paint_box(s, b, X + arm - 0.35f, X + arm + 0.35f, H + 0.2f, H + 0.38f);
}

static void traffic_light(Scene *s, float X, float Z, float H) {
    static const Rgb lamps[] = {{0.95f, 0.15f, 0.1f}, {0.95f, 0.7f, 0.1f}, {0.15f, 0.9f, 0.45f}};
    Brush b = brush(CLASS_SIGN, (Rgb){0.07f, 0.07f, 0.07f}, Z - 0.05f);
    int on = dice_n(&s->dice, 3);
    paint_box(s, b, X - 0.2f, X + 0.2f, H - 1.0f, H);
    b.z -= 0.01f, b.rgb = lamps[on];
    paint_disc(s, b, X, H - 0.18f - 0.32f * (float)on, 0.13f, 0.13f);
}

static void board(Scene *s, float X, float Z, float H) {
    Dice *d = &s->dice;
    int kind = dice_n(d, 4);
    Rgb rim = any_colour(s),
        face = kind == 0 ? rgb_scale((Rgb){0.9f, 0.9f, 0.88f}, s->light.g) : any_colour(s);
    float r = dice_in(d, 0.28f, 0.45f);
    Brush b = brush(CLASS_SIGN, rim, Z - 0.05f);
    if (kind == 0) { /* round with a rim */
        paint_disc(s, b, X, H - r, r, r);
        b.rgb = face, b.z -= 0.01f;
        paint_disc(s, b, X, H - r, r * 0.68f, r * 0.68f);
        return;
    }
    float wide = kind == 1   ? r
                 : kind == 2 ? dice_in(d, 0.6f, 1.4f)
                             : r * 0.8f,
          tall = kind == 3 ? r * 3 : 2 * r;
    paint_box(s, b, X - wide, X + wide, H - tall, H);
    b.rgb = face, b.z -= 0.01f;
    paint_box(s, b, X - wide * 0.8f, X + wide * 0.8f, H - tall * 0.85f, H - tall * 0.15f);
}

void scene_sign(Scene *s, float X, float Z) {
    float H = dice_in(&s->dice, 2.0f, 3.6f), grey = dice_in(&s->dice, 0.25f, 0.65f);
    Brush post =
        brush(CLASS_POLE, (Rgb){grey * s->light.r, grey * s->light.g, grey * s->light.b}, Z);
    paint_box(s, post, X - 0.045f, X + 0.045f, 0, H);
    if (dice_chance(&s->dice, 0.3)) traffic_light(s, X, Z, H);
    else board(s, X, Z, H);
}

/* Bars and mesh let the background through; all of the fence's area carries its label. */
typedef struct {
    int kind;
    Rgb rgb;
    float pitch, height;
    uint32_t seed;
} FenceLook;
static Rgb fence_at(const void *ctx, float u, float v) {
    const FenceLook *f = ctx;
    float at = wrap(u, f->pitch) / f->pitch;
    Rgb hole = {-1, 0, 0};
    if (f->kind == 0)
        return at < 0.35f || v > f->height - 0.12f || fabsf(v - 0.15f) < 0.06f ? f->rgb
                                                                               : hole; /* bars */
    if (f->kind == 1)
        return wrap(u * 3 + v * 3, 0.5f) < 0.14f || wrap(u * 3 - v * 3, 0.5f) < 0.14f || at < 0.06f
                   ? f->rgb
                   : hole;
    if (f->kind == 2)
        return rgb_scale(
            f->rgb,
            at < 0.08f ? 0.6f : 0.9f + 0.2f * grain(f->seed, (int)(u / f->pitch), 0)); /* planks */
    return fabsf(v - f->height * 0.85f) < 0.13f || fabsf(v - f->height * 0.45f) < 0.13f ||
                   at < 0.05f
               ? f->rgb
               : hole; /* guard rail */
}

static FenceLook fence_look(Scene *s) {
    Dice *d = &s->dice;
    FenceLook f = {.kind = dice_n(d, 4), .seed = s->seed + 71};
    f.height = dice_in(d, 0.8f, 1.9f);
    f.pitch = f.kind == 0 ? dice_in(d, 0.18f, 0.4f) : f.kind == 2 ? 0.25f : 2;
    f.rgb = rgb_scale(any_colour(s), 0.85f);
    return f;
}

void scene_fence(Scene *s, float X, float z0, float z1) {
    FenceLook f = fence_look(s);
    paint_wall(s, CLASS_FENCE, X, (float[]){z0, z1}, (float[]){0, f.height}, fence_at, &f);
}

void scene_fence_front(Scene *s, float x0, float x1, float Z) {
    FenceLook f = fence_look(s);
    paint_front(s, CLASS_FENCE, Z, (float[]){x0, x1}, (float[]){0, f.height}, fence_at, &f);
}
