/* maps.h - difficulty maps of whole images, for the report and `retort maps`. */
#ifndef RETORT_CLI_MAPS_H
#define RETORT_CLI_MAPS_H
#include "data/data.h"
#include "models/model.h"

typedef struct MapNet {
    Net *net;
    const ModelNodes *nodes;
} MapNet; /* net NULL: absent */
typedef struct TseRule {
    double fraction, theta;
} TseRule;
/* Writes DIR/NAME.{image,label,teacher,student,tfe,tse}.png of n images spread over the split;
 * those that cannot be made (no teacher, no auxiliary head) are left out. */
Err maps_write(const char *dir, Dataset *d, int n, MapNet student, MapNet teacher, TseRule rule);
#endif
