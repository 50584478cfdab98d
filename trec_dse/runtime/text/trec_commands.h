/* The text commands by which the runner of MLPerf Tiny (EEMBC's EnergyRunner) drives a board. */
#ifndef TREC_COMMANDS_H
#define TREC_COMMANDS_H

#include <stdint.h>

#define TREC_COMMAND_CHARACTERS 80u /* the longest command, without the '%' that ends it */

/* What the commands act upon; the caller owns all of it. */
typedef struct {
    const char *vendor, *model;     /* "ic01": the benchmark that this network takes part in */
    uint8_t *input;
    const int8_t *output;
    uint32_t input_bytes, output_bytes;
    uint32_t measures_energy;       /* whether a moment is told by a pin, not by a line with microseconds */
} trec_commands_device;

typedef struct {
    const trec_commands_device *device;
    uint32_t n_expected, n_loaded; /* bytes of the `db load` under way, and those of it that have come */
    uint32_t size;                 /* characters of `line` */
    char line[TREC_COMMAND_CHARACTERS + 1u];
} trec_commands;

/* The program's: microseconds since some moment; called at least once in 2^32 cycles while networks run. */
uint32_t trec_commands_microseconds(void);

/* The program's, where energy is measured: tells the instrument that it is now. */
void trec_commands_pulse(void);

/* The program's: one inference, which reads the device's input and fills its output. */
void trec_commands_run(void);

/* Says that the board is there. */
void trec_commands_begin(trec_commands *c, const trec_commands_device *device);

/* Takes the next character from the host; one that ends a command runs it and answers. */
void trec_commands_feed(trec_commands *c, uint8_t byte);

#endif
