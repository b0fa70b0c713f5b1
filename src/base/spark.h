/* spark.h - a curve in one line of text: a block of eight heights for each value. */
#ifndef RETORT_BASE_SPARK_H
#define RETORT_BASE_SPARK_H
#include "base/str.h"

enum { SPARK_WIDTH = 24 };
void spark_text(Str *out, const double *v, int n);   /* lowest to highest value; not finite: a space */
/* Any number of values in SPARK_WIDTH means at most: when they are full, neighbours are joined. */
typedef struct Spark {
    double  mean[SPARK_WIDTH], sum;
    int     n;
    int64_t per, held;               /* values to a mean; values in sum */
} Spark;
void spark_add(Spark *s, double value);              /* values that are not finite are left out */
#endif
