/* test_stats.c - Student's t, what few numbers can show, and the bootstrap of matched runs. The
 * numbers come from SciPy 1.17 (scipy.stats.t, scipy.stats.nct). */
#include "base/stats.h"

#include "eval/eval.h"
#include "test.h"

TEST(t_quantiles_are_those_of_the_tables) {
    static const struct { double p, nu, t;
    } rows[] = {{0.975, 1, 12.706204736174694}, {0.975, 2, 4.302652729749462},
                {0.975, 3, 3.1824463052837078}, {0.975, 4, 2.7764451051977934},
                {0.975, 9, 2.262157162798205},  {0.975, 29, 2.045229642132703},
                {0.995, 1, 63.656741162871526}, {0.99375, 4, 4.314656048886743},
                {0.8, 4, 0.9409645772351816},   {0.975, 200, 1.9718962236339088}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        EXPECT_NEAR(stats_t_quantile(rows[i].p, rows[i].nu), rows[i].t, 1e-8);
        EXPECT_NEAR(stats_t_quantile(1 - rows[i].p, rows[i].nu), -rows[i].t, 1e-8);
        EXPECT_NEAR(stats_t_cdf(rows[i].t, rows[i].nu, 0), rows[i].p, 1e-10);
    }
}
TEST(the_noncentral_distribution_is_scipys) {
    EXPECT_NEAR(stats_t_cdf(2.0, 4, 1.0), 0.7645674538243243, 1e-9);
    EXPECT_NEAR(stats_t_cdf(12.7, 1, 16.0), 0.20913226139033825, 1e-9);
    EXPECT_NEAR(stats_t_cdf(2.26, 9, 3.0), 0.23822902444932975, 1e-9);
    EXPECT_NEAR(stats_t_cdf(1.0, 50, -0.5), 0.9315784628199729, 1e-9);
}
TEST(the_smallest_difference_that_seeds_can_show) {
    static const struct {
        int n;
        double d;
    } rows[] = {{2, 11.549888435882336},
                {3, 3.2640435496995717},
                {5, 1.6819969659555543},
                {10, 0.9960013714554438},
                {30, 0.5292356151129528}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        EXPECT_NEAR(stats_detectable(rows[i].n, 0.95, 0.8), rows[i].d, 1e-7);
    EXPECT(isnan(stats_detectable(1, 0.95, 0.8)));
}
TEST(moments_leave_out_what_is_not_there) {
    const double x[] = {0.5, NAN, 1.5, 0.25, 2.0, 1.0};
    Moments m = stats_moments(x, 6, 0.95);
    EXPECT_INT(m.n, 5);
    EXPECT_NEAR(m.mean, 1.05, 1e-15);
    EXPECT_NEAR(m.sd, 0.7158910531638176, 1e-15);
    EXPECT_NEAR(m.ci.lo, 0.16110385265031069, 1e-9);
    EXPECT_NEAR(m.ci.hi, 1.9388961473496895, 1e-9);
    m = stats_moments(x, 2, 0.95);
    EXPECT(m.n == 1 && m.mean == 0.5 && isnan(m.sd) && isnan(m.ci.lo));
    EXPECT(isnan(stats_moments(NULL, 0, 0.95).mean));
}
TEST(quantiles_are_linear_between_neighbours) {
    const double x[] = {1, 2, 4, 8};
    double y[] = {8, NAN, 1, 4};
    EXPECT_NEAR(stats_quantile(x, 4, 0.5), 3, 0);
    EXPECT_NEAR(stats_quantile(x, 4, 0.025), 1.075, 1e-15);
    EXPECT_NEAR(stats_quantile(x, 4, 1), 8, 0);
    EXPECT_NEAR(stats_median(y, 4), 4, 0);
    EXPECT(isnan(stats_median(y, 0)));
}

/* ---- the bootstrap: one class, 100 pixels an image, some of them found, so that IoU is a mean ---- */
enum { UNITS = 200, SEEDS = 2 };
static int64_t found[3][SEEDS][UNITS][3];
static const int64_t *runs[3 * SEEDS];
static Bootstrap boot(void) {
    for (int a = 0; a < 3; a++)
        for (int s = 0; s < SEEDS; s++) {
            runs[a * SEEDS + s] = &found[a][s][0][0];
            for (int u = 0; u < UNITS; u++) {
                const int64_t hit = 40 + u % 21 + (a == 2 ? 5 + u % 2 : 0);
                found[a][s][u][0] = found[a][s][u][2] = hit, found[a][s][u][1] = 100;
            }
        }
    return (Bootstrap){
        .n_units = UNITS, .n_classes = 1, .n_arms = 3, .n_seeds = SEEDS, .base = 0, .counts = runs};
}
TEST(what_an_image_does_to_all_arms_cancels) {
    Bootstrap b = boot();
    Interval mean[3], gain[3];
    bootstrap_arms(&b, 1, mean, gain);
    EXPECT(gain[0].lo == 0 && gain[0].hi == 0 && gain[1].lo == 0 && gain[1].hi == 0);
    /* 5 or 6 pixels more of 100: mean 0.055, standard deviation 0.005 by image */
    const double half = 1.96 * 0.005 / sqrt(UNITS);
    EXPECT_NEAR(gain[2].lo, 0.055 - half, 0.1 * half);
    EXPECT_NEAR(gain[2].hi, 0.055 + half, 0.1 * half);
    EXPECT(mean[2].hi - mean[2].lo > 5 * (gain[2].hi - gain[2].lo));
}
TEST(intervals_of_a_mean_are_as_wide_as_theory_says) {
    Bootstrap b = boot();
    Interval mean[3], gain[3];
    double sum = 0, squares = 0;
    bootstrap_arms(&b, 1, mean, gain);
    for (int u = 0; u < UNITS; u++) sum += (40 + u % 21) / 100.0 / UNITS;
    for (int u = 0; u < UNITS; u++) squares += pow((40 + u % 21) / 100.0 - sum, 2) / UNITS;
    const double half = 1.96 * sqrt(squares / UNITS);
    EXPECT_NEAR(mean[0].lo, sum - half, 0.1 * half);
    EXPECT_NEAR(mean[0].hi, sum + half, 0.1 * half);
}
TEST(a_missing_run_leaves_the_seeds_that_both_have) {
    Bootstrap b = boot();
    Interval mean[3], gain[3], whole[3];
    for (int u = 0; u < UNITS; u++) found[0][1][u][0] = found[0][1][u][2] = 10;     /* the base arm's second seed is bad */
    runs[2 * SEEDS + 1] = NULL;
    bootstrap_arms(&b, 1, mean, gain);
    const double half = 1.96 * 0.005 / sqrt(UNITS);
    EXPECT_NEAR(gain[2].lo, 0.055 - half, 0.1 * half);       /* by the first seed alone */
    EXPECT_NEAR(gain[2].hi, 0.055 + half, 0.1 * half);
    b.n_seeds = 1, b.counts = (const int64_t *[]){runs[0], runs[SEEDS], runs[2 * SEEDS]};
    bootstrap_arms(&b, 1, whole, gain);
    EXPECT(mean[2].lo == whole[2].lo && mean[2].hi == whole[2].hi);
    b.counts = (const int64_t *[]){runs[0], runs[SEEDS], NULL};
    bootstrap_arms(&b, 1, mean, gain);
    EXPECT(isnan(mean[2].lo) && isnan(gain[2].hi) && !isnan(gain[1].lo));
}
TEST(one_unit_has_no_width) {
    Bootstrap b = boot();
    Interval mean[3], gain[3];
    b.n_units = 1;
    bootstrap_arms(&b, 1, mean, gain);
    EXPECT(mean[0].lo == 0.4 && mean[0].hi == 0.4 && gain[2].lo == gain[2].hi);
}

TEST_MAIN(T(t_quantiles_are_those_of_the_tables), T(the_noncentral_distribution_is_scipys),
          T(the_smallest_difference_that_seeds_can_show), T(moments_leave_out_what_is_not_there),
          T(quantiles_are_linear_between_neighbours), T(what_an_image_does_to_all_arms_cancels),
          T(intervals_of_a_mean_are_as_wide_as_theory_says), T(a_missing_run_leaves_the_seeds_that_both_have), T(one_unit_has_no_width))
