/* study_priv.h - shared by the files of a study's report. */
#ifndef RETORT_REPORT_STUDY_PRIV_H
#define RETORT_REPORT_STUDY_PRIV_H
#include "report/study.h"

extern const double STUDY_LEVEL, STUDY_POWER;        /* of every interval; of the smallest difference */
int study_comparisons(const Study *s);               /* arms that are compared with the base arm */
const char *study_failed(const StudyArm *a, int seed);       /* what stopped that run; NULL: nothing */
Err study_page(const char *path, const Study *s);
#endif
