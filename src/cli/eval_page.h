/* eval_page.h - what `retort eval` tells: a table for the terminal, one HTML page. */
#ifndef RETORT_CLI_EVAL_PAGE_H
#define RETORT_CLI_EVAL_PAGE_H
#include "eval/eval.h"

void eval_print(const EvalResult *r);
/* The worst images are read and predicted anew for their pictures. */
Err  eval_page(const char *path, const EvalResult *r, Predictor *p, Dataset *d);
#endif
