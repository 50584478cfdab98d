/* The firmware's only loop where a runner of MLPerf Tiny is the host: characters in, lines out. */
#include "board.h"
#include "trec_commands.h"
#include "trec_marker.h"
#include "trec_model.h"
#include "trec_network.h"
#include "trec_port.h"

#define PER_MICROSECOND (TREC_CLOCK_HZ / 1000000u)
#define PULSE_US 10u /* the runner wants one at least */

_Static_assert(TREC_INPUT_OFFSET + TREC_INPUT_BYTES <= TREC_ARENA_BYTES, "the input leaves the arena");
_Static_assert(TREC_OUTPUT_OFFSET + TREC_OUTPUT_BYTES <= TREC_ARENA_BYTES, "the output leaves the arena");
_Static_assert(TREC_CLOCK_HZ % 1000000u == 0, "a microsecond is no whole number of cycles");

/* An inference writes over its input and the next one over its output, so both stand here as well. */
static uint8_t input[TREC_INPUT_BYTES];
static int8_t output[TREC_OUTPUT_BYTES];

static uint32_t last_cycles, left_over, elapsed_us;

/* Adds what the counter has gone on by, so that only the time between two calls must be below 2^32 cycles. */
uint32_t trec_commands_microseconds(void)
{
    const uint32_t now = trec_port_cycles();
    const uint32_t passed = now - last_cycles;
    const uint32_t parts = left_over + passed % PER_MICROSECOND;
    last_cycles = now;
    elapsed_us += passed / PER_MICROSECOND + parts / PER_MICROSECOND;
    left_over = parts % PER_MICROSECOND;
    return elapsed_us;
}

/* The falling edge is the moment. */
void trec_commands_pulse(void)
{
    const uint32_t start = trec_commands_microseconds();
    trec_mark(0);
    while (trec_commands_microseconds() - start <= PULSE_US) {
    }
    trec_mark(1);
}

void trec_commands_run(void)
{
    for (uint32_t i = 0; i < TREC_INPUT_BYTES; i++) {
        trec_arena[TREC_INPUT_OFFSET + i] = input[i];
    }
    trec_net_run();
    for (uint32_t i = 0; i < TREC_OUTPUT_BYTES; i++) {
        output[i] = (int8_t)trec_arena[TREC_OUTPUT_OFFSET + i];
    }
}

int main(void)
{
    static const trec_commands_device device = {
        .vendor = "trec_dse",
        .model = TREC_MODEL,
        .input = input,
        .output = output,
        .input_bytes = TREC_INPUT_BYTES,
        .output_bytes = TREC_OUTPUT_BYTES,
        .measures_energy = TREC_MEASURES_ENERGY,
    };
    static trec_commands commands;
    trec_port_init();
    trec_commands_begin(&commands, &device);
    for (;;) {
        trec_commands_feed(&commands, trec_port_read());
    }
}
