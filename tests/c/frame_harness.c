/* The frame code as plain functions over whole buffers, for ctypes. */
#include "trec_frame.h"

typedef struct {
    uint32_t size;
    uint16_t sequence;
    uint8_t event;
    uint8_t fault;
    uint8_t command;
} harness_event;

static uint8_t *sink;
static uint32_t n_sunk, sink_bytes;

uint32_t harness_crc32(const uint8_t *bytes, uint32_t size);
uint32_t harness_write(const uint8_t *header, const trec_piece *pieces, uint32_t n_pieces, uint8_t *out,
                       uint32_t out_bytes);
uint32_t harness_read(const uint8_t *stream, uint32_t size, trec_piece into, harness_event *events,
                      uint32_t max_events);

static void put(uint8_t byte)
{
    if (n_sunk < sink_bytes) {
        sink[n_sunk] = byte;
    }
    n_sunk++;
}

uint32_t harness_crc32(const uint8_t *bytes, uint32_t size)
{
    return ~trec_crc32(0xFFFFFFFFu, bytes, size);
}

/* header: (3) command and sequence; out: (out_bytes). Returns the size of the frame. */
uint32_t harness_write(const uint8_t *header, const trec_piece *pieces, uint32_t n_pieces, uint8_t *out,
                       uint32_t out_bytes)
{
    sink = out;
    sink_bytes = out_bytes;
    n_sunk = 0;
    trec_frame_write(put, header[0], (uint16_t)(header[1] | header[2] << 8), pieces, n_pieces);
    return n_sunk;
}

/* stream: (size); events: (max_events). Returns the number of events other than TREC_FRAME_WAIT. */
uint32_t harness_read(const uint8_t *stream, uint32_t size, trec_piece into, harness_event *events,
                      uint32_t max_events)
{
    trec_frame_reader reader;
    uint32_t n = 0;
    trec_frame_begin(&reader, (uint8_t *)(uintptr_t)into.bytes, into.size);
    for (uint32_t i = 0; i < size; i++) {
        const trec_frame_event event = trec_frame_feed(&reader, stream[i]);
        if (event != TREC_FRAME_WAIT && n < max_events) {
            events[n++] = (harness_event){reader.size, reader.sequence, (uint8_t)event, reader.fault, reader.command};
        }
    }
    return n;
}
