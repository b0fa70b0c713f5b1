/* scene_paint.h - a small depth-buffered painter for the street pictures of scenes.c.
 *
 * World: metres, X right of the camera, Y up from the ground, Z ahead. A canvas has twice the
 * picture's size each way; scene_develop averages 2 x 2 for colour and lets them vote for the
 * label. Everything is tested against the depth buffer, so the order of painting does not matter,
 * but the near comes first since hidden pixels are not shaded, and fences, seen through, last. */
#ifndef RETORT_DATA_SCENE_PAINT_H
#define RETORT_DATA_SCENE_PAINT_H
#include "base/rng.h"
#include "data/data_priv.h"

typedef struct { float r, g, b; } Rgb;               /* 0..1 */
typedef struct { Rng rng; uint64_t i; } Dice;        /* draws of one picture, in order */
float dice(Dice *d);                                 /* [0, 1) */
float dice_in(Dice *d, float lo, float hi);
int   dice_n(Dice *d, int n);                        /* 0 .. n-1 */
bool  dice_chance(Dice *d, double p);
Rgb   rgb_mix(Rgb a, Rgb b, float t);
Rgb   rgb_scale(Rgb a, float t);
float grain(uint32_t seed, int x, int y);            /* white noise, [0, 1) */
int   floor_int(float x);
float wrap(float x, float period);                   /* x modulo period, in [0, period) */
float noise(uint32_t seed, float x, float y);        /* smooth noise, [0, 1) */

typedef struct { float x, z, rx, rz; } Shadow;       /* an ellipse on the ground */
enum { SHADOWS_MAX = 128 };
#define SKY_Z 1e9f                   /* depth where nothing was painted */
typedef struct Scene {
    int      h, w;                   /* of the canvas: twice the picture's */
    Rgb     *rgb;                    /* h x w */
    float   *depth;
    uint8_t *label;
    Dice     dice;
    float    cx, horizon, focal, cam;        /* px, px, px, metres above ground */
    Rgb      haze; float haze_m;             /* colour of the far, distance where half is haze */
    Rgb      sky_top, light;                 /* light: colour of what the sun or sky lights */
    float    sun;                            /* -1 from the left .. 1 from the right; 0 overcast */
    float    shade;                          /* brightness of what is turned away */
    float    dark;                           /* 0 day .. 1 dusk */
    float    road_l, road_r, front_l, front_r;       /* X of kerbs and of the building lines */
    float    cross_z0, cross_z1;             /* a crossing street; z0 > z1: none */
    uint32_t seed;
    Shadow   shadow[SHADOWS_MAX]; int n_shadows;
} Scene;
float scene_x(const Scene *s, float X, float Z);
float scene_y(const Scene *s, float Y, float Z);

/* What a surface shows at its own coordinates, metres; a negative red is a hole: the label and
 * depth are painted, the colour behind stays. */
typedef Rgb (*Surface)(const void *ctx, float u, float v);
typedef struct { uint8_t label; Rgb rgb; float z, rough; } Brush;  /* rough: amplitude of grain */
bool visible(const Scene *s, int x, int y, float z);
void paint(Scene *s, int x, int y, float z, uint8_t label, Rgb c);  /* one canvas pixel, hazed */
void paint_box(Scene *s, Brush b, float X0, float X1, float Y0, float Y1);  /* at least 1 px */
void paint_disc(Scene *s, Brush b, float X, float Y, float rx, float ry);
void paint_line(Scene *s, Brush b, const float from[2], const float to[2], float width);
void paint_leaves(Scene *s, Brush b, float X, float Y, float rx, float ry);  /* ragged disc */
void paint_wall(Scene *s, uint8_t label, float X, const float z[2], const float y[2], Surface f,
                const void *ctx);
void paint_front(Scene *s, uint8_t label, float Z, const float x[2], const float y[2], Surface f,
                 const void *ctx);

/* Camera: average, blur, tone, noise; writes the picture (h/2 x w/2). */
void scene_develop(Scene *s, Sample *out);

/* scene_things.c */
void scene_car(Scene *s, float X, float Z, bool oncoming);
void scene_car_crossing(Scene *s, float X, float Z);
void scene_person(Scene *s, float X, float Z);
void scene_cyclist(Scene *s, float X, float Z);
void scene_tree(Scene *s, float X, float Z);
void scene_lamp(Scene *s, float X, float Z, float arm);
void scene_sign(Scene *s, float X, float Z);
void scene_fence(Scene *s, float X, float z0, float z1);
void scene_fence_front(Scene *s, float x0, float x1, float Z);
/* scene_street.c */
void scene_light(Scene *s);
void scene_plan(Scene *s);           /* camera, road, crossing */
void scene_buildings(Scene *s);
void scene_ground(Scene *s);         /* after all shadows are known */
void scene_sky(Scene *s);            /* wherever nothing was painted */
#endif
