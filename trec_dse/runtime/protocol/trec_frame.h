/* Frames of the serial protocol: COBS(version, command, sequence, payload, CRC-32), then one zero byte.
 *
 * Neither direction has a buffer: the reader decodes a payload into the caller's memory as it arrives, the writer
 * encodes from wherever the pieces of an answer are. */
#ifndef TREC_FRAME_H
#define TREC_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define TREC_FRAME_VERSION 1u
#define TREC_FRAME_HEADER_BYTES 4u /* version, command, sequence (little endian) */
#define TREC_FRAME_CRC_BYTES 4u
#define TREC_FRAME_MAX_PIECES 4u
#define TREC_FRAME_NO_SEQUENCE 0xFFFFu /* of a request that arrived damaged */

typedef enum {
    TREC_FRAME_WAIT,    /* the frame is not complete */
    TREC_FRAME_REQUEST, /* command, sequence, payload and size are valid until the next byte is fed */
    TREC_FRAME_FAULTY   /* fault and sequence say what to answer */
} trec_frame_event;

/* As they stand in an error answer. */
typedef enum {
    TREC_FAULT_NONE = 0,
    TREC_FAULT_DAMAGED = 1,
    TREC_FAULT_TOO_LONG = 2,
    TREC_FAULT_COMMAND = 3,
    TREC_FAULT_LENGTH = 4,
    TREC_FAULT_VERSION = 5
} trec_fault;

typedef struct {
    uint8_t *payload; /* (limit) where payloads are decoded to */
    uint32_t limit;
    uint32_t size; /* payload bytes decoded so far, at most limit */
    uint32_t crc;
    uint32_t tail; /* the last four bytes: only the end of the frame tells whether they are its CRC */
    uint16_t sequence;
    uint8_t command;
    uint8_t fault;
    uint8_t version;
    uint8_t n_raw;      /* decoded bytes, counted up to header + CRC */
    uint8_t run;        /* bytes left in the COBS block */
    uint8_t ends_zero;  /* the block stands for a zero after its bytes */
    uint8_t is_started; /* a byte of this frame was seen */
    uint8_t is_too_long;
} trec_frame_reader;

/* Part of a payload: bytes (size). */
typedef struct {
    const uint8_t *bytes;
    uint32_t size;
} trec_piece;

typedef void (*trec_frame_put)(uint8_t byte);

/* CRC-32 of zlib and Ethernet, without its final inversion: start with 0xFFFFFFFF, invert the result. */
uint32_t trec_crc32(uint32_t crc, const uint8_t *bytes, uint32_t size);

/* payload: (limit) */
void trec_frame_begin(trec_frame_reader *r, uint8_t *payload, uint32_t limit);

trec_frame_event trec_frame_feed(trec_frame_reader *r, uint8_t byte);

/* Sends one frame whose payload is the pieces: (n_pieces), at most TREC_FRAME_MAX_PIECES, one after another. */
void trec_frame_write(trec_frame_put put, uint8_t command, uint16_t sequence, const trec_piece *pieces,
                      uint32_t n_pieces);

#endif
