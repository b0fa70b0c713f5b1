/* choices.h - which way a layer is computed where there are several: measured once, then remembered.
 *
 * A choice is a line of text, KEY<TAB>WAY; what both mean is the backend's (cpu/ways.c). Plans ask by key
 * (PlanSpec.choices) and tell what they measured. A table is either replayed (a resumed run: nothing is
 * measured, what is missing is computed the usual way) or that of the machine: read from the user's cache
 * folder, measured where a key is missing, and written back. Ways differ in the last bits, so whoever wants the
 * same bits again keeps choices_text. The key * stands for all that have no line of their own. One process of a machine measures at a time: the others wait and find
 * its choices. */
#ifndef RETORT_BACKEND_CHOICES_H
#define RETORT_BACKEND_CHOICES_H
#include "base/err.h"

typedef struct Choices Choices;
static const char CHOICE_USUAL[] = "usual";          /* the way of what measuring did not reach */
Choices *choices_replay(const char *text);           /* of choices_text; lines that are none are passed over */
Choices *choices_of_machine(double limit_s);         /* this processor, library and number of threads; 0: no limit */
void  choices_close(Choices *c);                     /* NULL is fine; gives the lock back */
/* The way of a key, which counts as used from here on; NULL: to be measured, or, where choices_measure is false, not known. */
const char *choices_find(Choices *c, const char *key);
bool  choices_measure(const Choices *c);
void  choices_add(Choices *c, const char *key, const char *way, double seconds);      /* seconds: what measuring took */
/* Measuring goes in rounds of plans that are thrown away, what costs most first: choices_measures says whether a layer of so many
 * operations is to be measured in this round. The limit is of the seconds since choices_begin; what it leaves out is told by
 * choices_leave, and remembered as CHOICE_USUAL. */
void  choices_begin(Choices *c);
void  choices_round(Choices *c, double least_flops);
void  choices_end(Choices *c);
bool  choices_measures(const Choices *c, double flops);
bool  choices_over(const Choices *c);                /* the time is up */
void  choices_leave(Choices *c, const char *key);
char *choices_text(const Choices *c);                /* those used, sorted; caller frees */
/* Writes what was measured to the cache, atomically. A cache that cannot be written is no failure: *why says so (caller frees), or NULL. */
void  choices_save(Choices *c, char **why);
typedef struct { int used, measured, left; double seconds, limit_s; const char *path; } ChoiceStats;
ChoiceStats choices_stats(const Choices *c);
#endif
