/* scene_street.c - what stands still in a street picture: light, sky, ground, buildings. */
#include <math.h>

#include "data/scene_paint.h"

typedef enum { WEATHER_CLEAR, WEATHER_CLOUDY, WEATHER_OVERCAST, WEATHER_DUSK, WEATHERS } Weather;

void scene_light(Scene *s) {
    Dice *d = &s->dice;
    static const struct {
        Rgb top, far, light;
        float shade, haze_m;
    } looks[WEATHERS] = {
        [WEATHER_CLEAR] =
            {{0.28f, 0.48f, 0.80f}, {0.74f, 0.82f, 0.90f}, {1.08f, 1.03f, 0.94f}, 0.50f, 420},
        [WEATHER_CLOUDY] =
            {{0.50f, 0.58f, 0.70f}, {0.82f, 0.84f, 0.87f}, {0.98f, 0.97f, 0.95f}, 0.66f, 260},
        [WEATHER_OVERCAST] =
            {{0.80f, 0.81f, 0.83f}, {0.88f, 0.88f, 0.88f}, {0.84f, 0.86f, 0.89f}, 0.82f, 150},
        [WEATHER_DUSK] =
            {{0.30f, 0.33f, 0.50f}, {0.86f, 0.66f, 0.52f}, {0.62f, 0.54f, 0.52f}, 0.55f, 240},
    };
    Weather weather = (Weather)dice_n(d, WEATHERS);
    s->sky_top = looks[weather].top;
    s->haze = rgb_scale(looks[weather].far, dice_in(d, 0.9f, 1.05f));
    s->light = rgb_scale(looks[weather].light, dice_in(d, 0.85f, 1.1f));
    s->shade = looks[weather].shade;
    s->haze_m = looks[weather].haze_m * dice_in(d, 0.7f, 1.3f);
    s->sun = weather == WEATHER_OVERCAST ? 0 : dice_in(d, -1, 1);
    s->dark = weather == WEATHER_DUSK ? dice_in(d, 0.4f, 1) : 0;
}

void scene_plan(Scene *s) {
    Dice *d = &s->dice;
    s->cam = dice_in(d, 1.25f, 2.3f);
    s->horizon = (float)s->h * dice_in(d, 0.36f, 0.52f);
    s->focal = (float)s->w * dice_in(d, 0.72f, 1.15f);
    s->cx = (float)s->w * dice_in(d, 0.3f, 0.7f);
    s->road_l = -1.7f - 3.1f * (float)dice_n(d, 2);
    s->road_l -= dice_in(d, 0, 2.2f);
    s->road_r = 1.7f + 3.1f * (float)dice_n(d, 3);
    s->road_r += dice_in(d, 0, 2.2f);
    s->front_l = s->road_l - dice_in(d, 1.6f, 5.5f);
    s->front_r = s->road_r + dice_in(d, 1.6f, 5.5f);
    s->cross_z0 = 1, s->cross_z1 = 0;
    if (dice_chance(d, 0.45)) {
        s->cross_z0 = dice_in(d, 9, 38);
        s->cross_z1 = s->cross_z0 + dice_in(d, 6, 11);
    }
}

void scene_sky(Scene *s) {
    Dice *d = &s->dice;
    uint32_t seed = s->seed + 11;
    float cover = dice_in(d, -0.2f, 0.9f), stretch = dice_in(d, 18, 45) * (float)s->w / 256.0f;
    Rgb cloud = rgb_mix(s->haze, (Rgb){1, 1, 1}, 0.35f);
    for (int y = 0; y < s->h; y++)
        for (int x = 0; x < s->w; x++) {
            if (s->depth[y * s->w + x] < SKY_Z) continue;
            float t = fminf(fmaxf((float)y / s->horizon, 0), 1), u = (float)x / stretch,
                  v = (float)y * 2.2f / stretch;
            float puff = 0.6f * noise(seed, u, v) + 0.3f * noise(seed + 1, 2.3f * u, 2.3f * v) +
                         0.1f * noise(seed + 2, 6 * u, 6 * v);
            Rgb c = rgb_mix(s->sky_top, s->haze, t * t);
            c = rgb_mix(c, cloud, fminf(fmaxf((puff - 0.75f + 0.5f * cover) * 3, 0), 0.9f));
            s->rgb[y * s->w + x] = c; /* has its own haze */
            s->label[y * s->w + x] = CLASS_SKY;
        }
}

/* Colours of one picture's ground. Pavement and road may be nearly the same grey. */
typedef struct {
    Rgb road, walk, verge;
    float slab, lane, wear, dash; /* metres; metres; amplitude; metres */
    bool green, crossing_stripes, line_edge;
    float shadow_l, shadow_r; /* X beyond which the buildings' shadow lies; off: +-1e9 */
} Ground;

static Ground ground_draw(Scene *s) {
    Dice *d = &s->dice;
    float grey = dice_in(d, 0.24f, 0.46f), warm = dice_in(d, -0.03f, 0.04f);
    float walk = dice_chance(d, 0.45) ? grey + dice_in(d, -0.02f, 0.06f) : dice_in(d, 0.4f, 0.66f),
          red = dice_in(d, -0.02f, 0.1f);
    Ground g = {.road = {grey + warm, grey, grey - warm * 0.5f + 0.015f},
                .walk = {walk + red, walk, walk - red * 0.6f},
                .verge = {0.26f, 0.36f, 0.16f},
                .shadow_l = -1e9f,
                .shadow_r = 1e9f};
    g.slab = dice_in(d, 0.5f, 1.4f);
    g.lane = dice_in(d, 2.9f, 3.4f);
    g.wear = dice_in(d, 0.08f, 0.3f);
    g.dash = dice_in(d, 2, 5);
    g.green = dice_chance(d, 0.3);
    g.crossing_stripes = dice_chance(d, 0.5);
    g.line_edge = dice_chance(d, 0.4);
    float reach = dice_in(d, 1, 6);
    if (s->sun < -0.25f) g.shadow_l = s->front_l + reach;
    if (s->sun > 0.25f) g.shadow_r = s->front_r - reach;
    return g;
}

static bool marked(const Scene *s, const Ground *g, float X, float Z, bool crossing) {
    float near_crossing = s->cross_z0 - Z;
    if (g->crossing_stripes && near_crossing > 0.8f && near_crossing < 3.6f)
        return wrap(X, 1.1f) < 0.5f;
    if (crossing || (near_crossing > 0 && near_crossing < 4)) return false;
    float lane = wrap(X - 1.6f, g->lane);
    if (lane < 0.14f && X > s->road_l + 1 && X < s->road_r - 1)
        return wrap(Z, 2.2f * g->dash) < g->dash;
    return g->line_edge &&
           (fabsf(X - s->road_l - 0.4f) < 0.07f || fabsf(X - s->road_r + 0.4f) < 0.07f);
}

static Rgb road_colour(const Scene *s, const Ground *g, float X, float Z, bool crossing) {
    float worn = noise(s->seed + 21, X * 0.8f, Z * 0.22f) * 0.6f +
                 noise(s->seed + 22, X * 3, Z * 1.1f) * 0.4f;
    Rgb c = rgb_scale(g->road, 1 + g->wear * (worn - 0.5f) * 2);
    if (noise(s->seed + 23, X * 0.35f, Z * 0.12f) > 0.76f)
        c = rgb_scale(c, 0.78f); /* a patch of new asphalt */
    if (marked(s, g, X, Z, crossing) && worn > 0.22f)
        c = rgb_mix(c, (Rgb){0.86f, 0.86f, 0.82f}, 0.8f);
    return c;
}

static Rgb walk_colour(const Scene *s, const Ground *g, float X, float Z) {
    float n = noise(s->seed + 24, X * 2.1f, Z * 0.9f);
    Rgb c = rgb_scale(g->walk, 0.9f + 0.2f * n);
    bool joint = wrap(X, g->slab) < 0.05f || wrap(Z, g->slab) < 0.07f;
    if (joint && Z < 22) c = rgb_scale(c, 0.8f);
    float kerb = fminf(fabsf(X - s->road_l), fabsf(X - s->road_r));
    if (kerb < 0.16f) c = rgb_mix(c, (Rgb){0.62f, 0.62f, 0.6f}, 0.6f);
    return c;
}

/* The shadows that reach the row at distance Z; rows are cut by few of them. */
typedef struct {
    Shadow v[SHADOWS_MAX];
    int n;
} RowShadows;
static void row_shadows(const Scene *s, float Z, RowShadows *row) {
    row->n = 0;
    for (int i = 0; i < s->n_shadows; i++)
        if (fabsf(Z - s->shadow[i].z) < s->shadow[i].rz) row->v[row->n++] = s->shadow[i];
}

static float ground_shade(const Scene *s, const Ground *g, const RowShadows *row, float X,
                          float Z) {
    float lit =
        X < g->shadow_l + 0.5f * noise(s->seed + 25, Z * 0.2f, 0) || X > g->shadow_r ? s->shade : 1;
    for (int i = 0; i < row->n; i++) {
        const Shadow *e = &row->v[i];
        float dz = (Z - e->z) / e->rz, dx = (X - e->x) / e->rx, r = dx * dx + dz * dz;
        if (r < 1) lit *= r < 0.5f ? 0.55f : 0.55f + 0.9f * (r - 0.5f);
    }
    return lit < 0.3f ? 0.3f : lit;
}

void scene_ground(Scene *s) {
    Ground g = ground_draw(s);
    for (int y = s->horizon > 0 ? (int)s->horizon : 0; y < s->h; y++) {
        float below = (float)y + 0.5f - s->horizon;
        if (below < 0.3f) continue;
        float Z = s->focal * s->cam / below;
        bool crossing = Z > s->cross_z0 && Z < s->cross_z1;
        RowShadows shadows;
        row_shadows(s, Z, &shadows);
        for (int x = 0; x < s->w; x++) {
            if (!visible(s, x, y, Z)) continue;
            float X = ((float)x + 0.5f - s->cx) * Z / s->focal;
            bool road = crossing || (X > s->road_l && X < s->road_r);
            bool verge = !road && g.green && (X < s->front_l || X > s->front_r);
            uint8_t label = road ? CLASS_ROAD : verge ? CLASS_TREE : CLASS_PAVEMENT;
            Rgb c = road    ? road_colour(s, &g, X, Z, crossing)
                    : verge ? g.verge
                            : walk_colour(s, &g, X, Z);
            float speck = 1 + 0.14f * (grain(s->seed + 26, x, y) - 0.5f);
            c = rgb_scale(c, speck * ground_shade(s, &g, &shadows, X, Z));
            paint(s, x, y, Z, label, (Rgb){c.r * s->light.r, c.g * s->light.g, c.b * s->light.b});
        }
    }
}

/* A facade: windows in a grid over bricks or plaster, shops at its foot. */
typedef struct {
    const Scene *s;
    Rgb wall, glass, awning;
    float lit; /* brightness of this plane */
    float cell, storey, win_w, win_h, offset, foot, height, brick;
    uint32_t seed;
    bool shop, posters;
} Facade;

static Rgb window_colour(const Facade *f, int i, int j, float u, float v) {
    float pick = grain(f->seed, i, j);
    if (f->s->dark > 0 && pick < 0.4f * f->s->dark) return (Rgb){0.95f, 0.8f, 0.5f};
    if (pick > 0.9f) return rgb_scale(f->wall, 0.6f); /* a shut blind */
    Rgb c = rgb_mix(f->glass, f->s->haze,
                    0.15f + 0.5f * pick * v); /* mirrors the sky, more at its top */
    bool bar = u > 0.47f && u < 0.55f;
    return bar ? rgb_scale(f->wall, 1.1f) : c;
}

static Rgb shop_colour(const Facade *f, float u, float v) {
    float at = wrap(u, 4.3f);
    if (v > f->foot - 0.55f) return f->awning;
    if (f->posters && at > 3.1f && v > 0.7f && v < 2.1f) /* advertisements: not sign symbols */
        return (Rgb){0.5f + 0.5f * grain(f->seed + 3, floor_int(u / 4.3f), 1),
                     0.3f + 0.5f * grain(f->seed + 4, floor_int(u / 4.3f), 2), 0.4f};
    if (at < 0.3f || v < 0.5f) return rgb_scale(f->wall, 0.7f);
    return rgb_mix(f->glass, f->awning, 0.25f * noise(f->seed + 5, u * 2, v * 2));
}

static Rgb facade_at(const void *ctx, float u, float v) {
    const Facade *f = ctx;
    float bricks = grain(f->seed + 1, floor_int(u * 4), floor_int(v * 9)) - 0.5f;
    Rgb c = rgb_scale(f->wall, 1 + f->brick * bricks +
                                   0.16f * (noise(f->seed + 2, u * 0.7f, v * 0.5f) - 0.5f));
    if (v < f->foot) {
        if (f->shop) c = shop_colour(f, u, v);
    } else if (v < f->height - 0.5f) {
        float gu = (u + f->offset) / f->cell, gv = (v - f->foot) / f->storey, fu = wrap(gu, 1),
              fv = wrap(gv, 1);
        float mu = (fu - 0.5f) / f->win_w + 0.5f, mv = (fv - 0.5f) / f->win_h + 0.5f;
        if (mu > 0 && mu < 1 && mv > 0 && mv < 1)
            c = window_colour(f, floor_int(gu), floor_int(gv), mu, mv);
    } else {
        c = rgb_scale(c, 0.8f); /* cornice */
    }
    c = rgb_scale(c, f->lit * (v < 0.4f ? 0.8f : 1));
    return (Rgb){c.r * f->s->light.r, c.g * f->s->light.g, c.b * f->s->light.b};
}

static Facade facade_draw(Scene *s) {
    Dice *d = &s->dice;
    static const Rgb walls[] = {{0.55f, 0.30f, 0.22f}, {0.72f, 0.66f, 0.55f}, {0.62f, 0.61f, 0.60f},
                                {0.82f, 0.79f, 0.72f}, {0.45f, 0.38f, 0.33f}, {0.66f, 0.52f, 0.38f},
                                {0.50f, 0.53f, 0.57f}, {0.80f, 0.62f, 0.48f}};
    static const Rgb awnings[] = {{0.6f, 0.12f, 0.1f},
                                  {0.1f, 0.2f, 0.45f},
                                  {0.1f, 0.32f, 0.2f},
                                  {0.75f, 0.7f, 0.6f},
                                  {0.15f, 0.15f, 0.16f}};
    Facade f = {.s = s, .glass = {0.16f, 0.19f, 0.23f}};
    f.wall = walls[dice_n(d, 8)];
    f.wall = rgb_scale(f.wall, dice_in(d, 0.8f, 1.15f));
    f.awning = awnings[dice_n(d, 5)];
    f.cell = dice_in(d, 1.5f, 3.4f);
    f.storey = dice_in(d, 2.7f, 3.6f);
    f.win_w = dice_in(d, 0.35f, 0.85f);
    f.win_h = dice_in(d, 0.4f, 0.75f);
    f.offset = dice_in(d, 0, 3);
    f.foot = dice_in(d, 3, 4.2f);
    f.brick = dice_in(d, 0, 0.3f);
    f.shop = dice_chance(d, 0.45);
    f.posters = dice_chance(d, 0.5);
    f.seed = rng_u32(&d->rng, d->i++);
    f.height = dice_in(d, 5, 11);
    if (dice_chance(d, 0.4)) f.height += dice_in(d, 3, 14);
    return f;
}

/* One block with its side towards the street (the plane X) and its front towards the camera. */
static void block(Scene *s, float X, float z0, float z1) {
    Dice *d = &s->dice;
    Facade f = facade_draw(s);
    float deep = dice_in(d, 8, 16), y[2] = {0, f.height}, z[2] = {z0, z1};
    bool left = X < 0;
    float away = left ? -s->sun : s->sun; /* the left side is lit when the sun stands right */
    f.lit = 0.5f * (1 + s->shade) - 0.5f * (1 - s->shade) * away;
    paint_wall(s, CLASS_BUILDING, X, z, y, facade_at, &f);
    Facade front = f;
    front.lit = 0.9f * (0.4f + 0.6f * s->shade), front.shop = false;
    float x[2] = {left ? X - deep : X, left ? X : X + deep};
    paint_front(s, CLASS_BUILDING, z0, x, y, facade_at, &front);
    if (!dice_chance(d, 0.4)) return;
    Brush chimney = {CLASS_BUILDING, rgb_scale(f.wall, 0.8f * f.lit), z0 + dice_in(d, 0, 2), 0.2f};
    float cx = left ? X - dice_in(d, 0.5f, 4) : X + dice_in(d, 0.5f, 4),
          cw = dice_in(d, 0.3f, 0.6f);
    paint_box(s, chimney, cx - cw, cx + cw, f.height - 0.2f, f.height + dice_in(d, 0.8f, 2));
}

static void side_of_street(Scene *s, float X) {
    Dice *d = &s->dice;
    float out = X < 0 ? -1.0f : 1.0f, open = dice_in(d, 0.05f, 0.4f);
    for (float z = dice_in(d, -6, 4); z < 110;) {
        float length = dice_in(d, 6, 20), z1 = z + length,
              set_back = dice_chance(d, 0.35) ? dice_in(d, 0, 4) : 0;
        if (z1 > s->cross_z0 - 1.5f && z < s->cross_z1 + 1.5f) { /* keep the crossing street free */
            if (s->cross_z0 - 1.5f - z > 3) z1 = s->cross_z0 - 1.5f;
            else {
                z = s->cross_z1 + 1.6f;
                continue;
            }
        }
        if (dice_chance(d, open)) {
            for (float t = z + 1.5f; t < z1; t += dice_in(d, 2, 5))
                if (t > 3) scene_tree(s, X + out * dice_in(d, 1, 6), t);
        } else if (z1 > 0.5f) {
            block(s, X + out * set_back, z > 0.3f ? z : 0.31f, z1);
        }
        z = z1 + (dice_chance(d, 0.25) ? dice_in(d, 0.5f, 4) : 0);
    }
}

/* Far away: what closes the street, and a line of roofs or woods over the horizon. */
static void backdrop(Scene *s) {
    Dice *d = &s->dice;
    for (float X = -150; X < 150;) {
        float width = dice_in(d, 8, 25), Z = dice_in(d, 120, 160);
        if (dice_chance(d, 0.6)) {
            Facade f = facade_draw(s);
            f.lit = 0.5f + 0.5f * s->shade;
            float x[2] = {X, X + width}, y[2] = {0, f.height};
            paint_front(s, CLASS_BUILDING, Z, x, y, facade_at, &f);
        } else if (dice_chance(d, 0.7)) {
            Brush wood = {CLASS_TREE, {0.2f, 0.28f, 0.16f}, Z, 0.2f};
            paint_leaves(s, wood, X + width / 2, 3, width * 0.7f, dice_in(d, 5, 10));
        }
        X += width;
    }
}

void scene_buildings(Scene *s) {
    side_of_street(s, s->front_l);
    side_of_street(s, s->front_r);
    backdrop(s);
}
