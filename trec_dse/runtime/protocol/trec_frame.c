/* Reads and writes frames byte by byte, in constant memory. */
#include "trec_frame.h"

#define CRC_START 0xFFFFFFFFu
#define CRC_RESIDUE 0xDEBB20E3u /* what remains after a message and its own CRC */
#define COBS_RUN 254u           /* most bytes in a COBS block */
#define MIN_RAW (TREC_FRAME_HEADER_BYTES + TREC_FRAME_CRC_BYTES)

/* Where the next byte of a list of pieces comes from. */
typedef struct {
    const trec_piece *piece, *end;
    uint32_t offset;
} cursor;

static uint32_t crc_byte(uint32_t crc, uint8_t byte)
{
    /* one nibble at a time: a sixteenth of the usual table, and still faster than the serial line */
    static const uint32_t table[16] = {
        0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
        0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu, 0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu,
    };
    crc ^= byte;
    crc = (crc >> 4) ^ table[crc & 15u];
    return (crc >> 4) ^ table[crc & 15u];
}

uint32_t trec_crc32(uint32_t crc, const uint8_t *bytes, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++) {
        crc = crc_byte(crc, bytes[i]);
    }
    return crc;
}

void trec_frame_begin(trec_frame_reader *r, uint8_t *payload, uint32_t limit)
{
    *r = (trec_frame_reader){.payload = payload, .limit = limit};
}

static void take_header(trec_frame_reader *r, uint8_t byte)
{
    switch (r->n_raw) {
    case 0:
        r->version = byte;
        break;
    case 1:
        r->command = byte;
        break;
    case 2:
        r->sequence = byte;
        break;
    default:
        r->sequence = (uint16_t)(r->sequence | (uint32_t)byte << 8);
        break;
    }
}

static void take(trec_frame_reader *r, uint8_t byte)
{
    r->crc = crc_byte(r->crc, byte);
    if (r->n_raw < TREC_FRAME_HEADER_BYTES) {
        take_header(r, byte);
    } else if (r->n_raw == MIN_RAW) {
        /* four bytes came after this one, so it is no CRC */
        if (r->size < r->limit) {
            r->payload[r->size++] = (uint8_t)r->tail;
        } else {
            r->is_too_long = 1;
        }
    }
    r->tail = r->tail >> 8 | (uint32_t)byte << 24;
    if (r->n_raw < MIN_RAW) {
        r->n_raw++;
    }
}

static trec_frame_event finish(trec_frame_reader *r)
{
    const int is_whole = r->run == 0 && r->n_raw == MIN_RAW && r->crc == CRC_RESIDUE;
    r->is_started = 0;
    if (!is_whole) {
        r->fault = TREC_FAULT_DAMAGED;
        r->sequence = TREC_FRAME_NO_SEQUENCE;
    } else if (r->version != TREC_FRAME_VERSION) {
        r->fault = TREC_FAULT_VERSION;
    } else if (r->is_too_long) {
        r->fault = TREC_FAULT_TOO_LONG;
    }
    return r->fault == TREC_FAULT_NONE ? TREC_FRAME_REQUEST : TREC_FRAME_FAULTY;
}

trec_frame_event trec_frame_feed(trec_frame_reader *r, uint8_t byte)
{
    if (!r->is_started) {
        if (byte == 0) {
            return TREC_FRAME_WAIT; /* hosts send a zero to end whatever noise came before */
        }
        trec_frame_begin(r, r->payload, r->limit);
        r->crc = CRC_START;
        r->is_started = 1;
    } else if (byte == 0) {
        return finish(r);
    }
    if (r->run > 0) {
        r->run--;
        take(r, byte);
        return TREC_FRAME_WAIT;
    }
    if (r->ends_zero) {
        take(r, 0);
    }
    r->run = (uint8_t)(byte - 1u);
    r->ends_zero = r->run < COBS_RUN;
    return TREC_FRAME_WAIT;
}

/* The next byte, or -1 after the last. */
static int32_t next(cursor *c)
{
    while (c->piece < c->end && c->offset == c->piece->size) {
        c->piece++;
        c->offset = 0;
    }
    return c->piece < c->end ? c->piece->bytes[c->offset++] : -1;
}

/* COBS: every block is its length + 1 and up to 254 bytes other than zero; a zero follows unless it is full. */
static void put_stuffed(trec_frame_put put, cursor from)
{
    int32_t last; /* what ended the block: a zero, the end (-1), or its 254th byte */
    do {
        cursor ahead = from;
        uint32_t run = 0;
        do {
            last = next(&ahead);
            run += last > 0;
        } while (last > 0 && run < COBS_RUN);
        put((uint8_t)(run + 1u));
        for (uint32_t i = 0; i < run; i++) {
            put((uint8_t)next(&from));
        }
        if (last > 0) {
            ahead = from;
            last = next(&ahead) < 0 ? -1 : last;
        } else {
            (void)next(&from); /* the zero that the block stands for */
        }
    } while (last >= 0);
}

void trec_frame_write(trec_frame_put put, uint8_t command, uint16_t sequence, const trec_piece *pieces,
                      uint32_t n_pieces)
{
    const uint8_t header[TREC_FRAME_HEADER_BYTES] = {TREC_FRAME_VERSION, command, (uint8_t)sequence,
                                                     (uint8_t)(sequence >> 8)};
    uint8_t trailer[TREC_FRAME_CRC_BYTES];
    trec_piece all[TREC_FRAME_MAX_PIECES + 2u];
    uint32_t n = 0;
    uint32_t crc = trec_crc32(CRC_START, header, sizeof header);
    all[n++] = (trec_piece){header, sizeof header};
    for (uint32_t i = 0; i < n_pieces && i < TREC_FRAME_MAX_PIECES; i++) {
        crc = trec_crc32(crc, pieces[i].bytes, pieces[i].size);
        all[n++] = pieces[i];
    }
    for (uint32_t i = 0; i < sizeof trailer; i++) {
        trailer[i] = (uint8_t)(~crc >> (8u * i));
    }
    all[n++] = (trec_piece){trailer, sizeof trailer};
    put_stuffed(put, (cursor){all, all + n, 0});
    put(0);
}
