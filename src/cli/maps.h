/* maps.h - difficulty maps of whole images, for the report and `retort maps`. */
#ifndef RETORT_CLI_MAPS_H
#define RETORT_CLI_MAPS_H
#include "data/data.h"
#include "models/model.h"

typedef struct MapNet {
    Net *net;
    const ModelNodes *nodes;
} MapNet; /* net NULL: absent */
typedef enum { EASE_AUX, EASE_FLIP, EASE_ENTROPY } Ease; /* as rdd's option tfe */
typedef struct TseRule {
    double fraction, theta;
    Ease tfe;
    bool turned;    /* KL(main || other), as tfe_kl=main-other */
} TseRule;
/* Pictures of n images spread over the split. What does not change while a student learns is made once:
 * DIR/NAME.{image,label,teacher,tfe}.png; of the teacher, which may be closed then, its logits are kept.
 * Those that cannot be made (no teacher, no auxiliary head) are left out. Borrows d. */
typedef struct Maps Maps;
Err  maps_open(const char *dir, Dataset *d, int n, MapNet teacher, TseRule rule, Maps **out);
Err  maps_student(Maps *m, MapNet student);          /* DIR/NAME.{student,tse}.png as they are now */
/* Keeps those of the first images, as maps_student made them, in DIR/step-N, at some of the steps of a run of `steps`. */
Err  maps_remember(const Maps *m, int64_t step, int64_t steps);
void maps_close(Maps *m);                            /* NULL is fine */
#endif
