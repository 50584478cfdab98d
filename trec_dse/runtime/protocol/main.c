/* The firmware's only loop: one request, one answer. */
#include "trec_frame.h"
#include "trec_marker.h"
#include "trec_network.h"
#include "trec_port.h"

enum { HELLO = 1, INFER = 2, ECHO = 3, RESET = 4, FAULT = 0x7F, ANSWER = 0x80 };

/* Requests are decoded into the arena where the input will stand: between inferences nothing else lives there. */
#define ROOM_BYTES ((uint32_t)TREC_ARENA_BYTES - (uint32_t)TREC_INPUT_OFFSET)
#define WANTED_BYTES ((uint32_t)TREC_INPUT_BYTES > 64u ? (uint32_t)TREC_INPUT_BYTES : 64u)
#define MAX_PAYLOAD_BYTES (WANTED_BYTES < ROOM_BYTES ? WANTED_BYTES : ROOM_BYTES)

_Static_assert(TREC_INPUT_OFFSET + TREC_INPUT_BYTES <= TREC_ARENA_BYTES, "the input leaves the arena");
_Static_assert(TREC_OUTPUT_OFFSET + TREC_OUTPUT_BYTES <= TREC_ARENA_BYTES, "the output leaves the arena");
_Static_assert(sizeof TREC_BUILD_ID == 17, "a build id has 16 characters");

/* Little endian, whatever the core is. */
static uint8_t *put_u32(uint8_t *at, uint32_t value)
{
    for (uint32_t i = 0; i < 4; i++) {
        at[i] = (uint8_t)(value >> (8u * i));
    }
    return at + 4;
}

static void answer(const trec_frame_reader *r, const trec_piece *pieces, uint32_t n_pieces)
{
    trec_frame_write(trec_port_write, (uint8_t)(r->command | ANSWER), r->sequence, pieces, n_pieces);
    trec_port_flush();
}

static void refuse(const trec_frame_reader *r, uint8_t fault)
{
    const trec_piece piece = {&fault, 1};
    trec_frame_write(trec_port_write, FAULT, r->sequence, &piece, 1);
    trec_port_flush();
}

static void hello(const trec_frame_reader *r)
{
    uint8_t numbers[24];
    uint8_t *at = numbers;
    at = put_u32(at, trec_port_clock_hz());
    at = put_u32(at, TREC_INPUT_BYTES);
    at = put_u32(at, TREC_OUTPUT_BYTES);
    at = put_u32(at, TREC_ARENA_BYTES);
    at = put_u32(at, MAX_PAYLOAD_BYTES);
    (void)put_u32(at, TREC_N_TREC_LAYERS);
    const trec_piece pieces[] = {{(const uint8_t *)TREC_BUILD_ID, 16}, {numbers, sizeof numbers}};
    answer(r, pieces, 2);
}

static void infer(const trec_frame_reader *r)
{
    trec_mark(1);
    const uint32_t before = trec_port_cycles();
    trec_net_run();
    const uint32_t cycles = trec_port_cycles() - before; /* right across one wrap of the counter */
    trec_mark(0);
    uint8_t numbers[12];
    uint8_t *at = put_u32(numbers, cycles);
    at = put_u32(at, 0); /* upper half of the cycles: no supported network runs for 2^32 of them */
    (void)put_u32(at, trec_port_stack_bytes());
    const trec_piece pieces[] = {
        {numbers, sizeof numbers},
        {(const uint8_t *)trec_n_clusters, 4u * TREC_N_TREC_LAYERS},
        {trec_arena + TREC_OUTPUT_OFFSET, TREC_OUTPUT_BYTES},
    };
    answer(r, pieces, 3);
}

static void serve(const trec_frame_reader *r)
{
    const uint32_t expected = r->command == INFER ? TREC_INPUT_BYTES : 0;
    if (r->command < HELLO || r->command > RESET) {
        refuse(r, TREC_FAULT_COMMAND);
    } else if (r->command == ECHO) {
        const trec_piece piece = {r->payload, r->size};
        answer(r, &piece, 1);
    } else if (r->size != expected) {
        refuse(r, TREC_FAULT_LENGTH);
    } else if (r->command == HELLO) {
        hello(r);
    } else if (r->command == INFER) {
        infer(r);
    } else {
        answer(r, NULL, 0);
        trec_port_reset();
    }
}

int main(void)
{
    trec_frame_reader reader;
    trec_port_init();
    trec_frame_begin(&reader, trec_arena + TREC_INPUT_OFFSET, MAX_PAYLOAD_BYTES);
    for (;;) {
        const trec_frame_event event = trec_frame_feed(&reader, trec_port_read());
        if (event == TREC_FRAME_REQUEST) {
            serve(&reader);
        } else if (event == TREC_FRAME_FAULTY) {
            refuse(&reader, reader.fault);
        }
    }
}
