/* tfevents.h - TensorBoard's event files: framed protocol buffers, written by hand.
 *
 * A file is a row of records: length (uint64), its checksum, data, its checksum; little-endian, the
 * checksum a masked CRC-32C. Each record is one Event. Only what a log of numbers and pictures needs
 * is known here, so a dozen lines of encoding stand in for a schema and its compiler. */
#ifndef RETORT_REPORT_TFEVENTS_H
#define RETORT_REPORT_TFEVENTS_H
#include "base/str.h"

uint32_t tfevents_crc32c(const void *data, size_t bytes);
void tfevents_record(Str *out, const void *data, size_t bytes);      /* appends one framed record */

/* Events, each appended as a record. wall: seconds since 1970. */
void tfevents_version(Str *out, double wall);                /* the first of a file */
void tfevents_start(Str *out, double wall, int64_t step);    /* readers forget earlier files' events from step on */
/* summary: values added by the two below. */
void tfevents_summary(Str *out, double wall, int64_t step, const Str *summary);
void tfevents_add_scalar(Str *summary, const char *tag, double value);
void tfevents_add_png(Str *summary, const char *tag, const uint8_t *png, size_t bytes);      /* nothing when it is none */
#endif
