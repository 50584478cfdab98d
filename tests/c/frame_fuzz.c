/* Random and damaged streams through the frame reader, in one sanitized process; exits 1 at the first wrong one.
 * Arguments: streams of noise alone, frames (each after noise, whole and then damaged), and a seed above 0. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trec_frame.h"

enum { MAX_PAYLOAD = 600, MAX_FRAME = MAX_PAYLOAD + 32 };

static uint8_t frame[MAX_FRAME];
static uint32_t n_frame;
static uint64_t state = 88172645463325252u;

static uint32_t random_below(uint32_t limit)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32) % limit;
}

static void put(uint8_t byte)
{
    frame[n_frame++] = byte;
}

static void fail(const char *what)
{
    (void)fprintf(stderr, "%s\n", what);
    exit(1);
}

/* Noise may be long, short, rich or poor in zeros; whatever it is, it must stay within the payload. */
static uint32_t feed_noise(trec_frame_reader *r)
{
    const uint32_t n = random_below(64);
    const uint32_t spread = 2 + random_below(254);
    uint32_t n_requests = 0;
    for (uint32_t i = 0; i < n; i++) {
        const trec_frame_event event = trec_frame_feed(r, (uint8_t)random_below(spread));
        if (r->size > r->limit) {
            fail("more payload than fits");
        }
        n_requests += event == TREC_FRAME_REQUEST;
    }
    return n_requests;
}

static void make_frame(uint8_t *payload, uint32_t size)
{
    const uint32_t spread = random_below(2) ? 256 : 3; /* with few zeros, and with many */
    for (uint32_t i = 0; i < size; i++) {
        payload[i] = (uint8_t)random_below(spread);
    }
    const uint32_t middle = random_below(size + 1);
    const trec_piece pieces[] = {{payload, middle}, {payload + middle, size - middle}};
    n_frame = 0;
    trec_frame_write(put, (uint8_t)random_below(256), (uint16_t)random_below(65536), pieces, 2);
}

/* A whole frame comes back as it was; the same frame with one bit wrong, or one byte short, never does. */
static void check_frame(uint8_t *sent, uint8_t *received, trec_frame_reader *r)
{
    const uint32_t size = random_below(MAX_PAYLOAD + 1);
    trec_frame_event event = TREC_FRAME_WAIT;
    make_frame(sent, size);
    for (uint32_t i = 0; i < n_frame; i++) {
        event = trec_frame_feed(r, frame[i]);
    }
    const int fits = size <= r->limit;
    if (fits && (event != TREC_FRAME_REQUEST || r->size != size || memcmp(sent, received, size) != 0)) {
        fail("a whole frame was not understood");
    }
    if (!fits && (event != TREC_FRAME_FAULTY || r->fault != TREC_FAULT_TOO_LONG)) {
        fail("an overlong frame was not refused");
    }
    const uint32_t victim = random_below(n_frame - 1);
    const uint32_t missing = random_below(2);
    frame[victim] = (uint8_t)(frame[victim] ^ 1u << random_below(8));
    for (uint32_t i = 0; i < n_frame; i++) {
        if ((missing && i == victim) ? 0 : trec_frame_feed(r, frame[i]) == TREC_FRAME_REQUEST) {
            fail("a damaged frame was taken for a request");
        }
    }
}

int main(int n_arguments, char **arguments)
{
    if (n_arguments != 4) {
        fail("usage: frame_fuzz NOISE FRAMES SEED");
    }
    const unsigned long n_noise = strtoul(arguments[1], NULL, 10);
    const unsigned long n_frames = strtoul(arguments[2], NULL, 10);
    state += strtoul(arguments[3], NULL, 10);
    uint32_t n_requests = 0;
    uint8_t *sent = malloc(MAX_PAYLOAD);
    for (unsigned long i = 0; i < n_noise + n_frames; i++) {
        /* on the heap and of exactly that size, so that the sanitizer sees one byte too many */
        const uint32_t limit = random_below(MAX_PAYLOAD + 1);
        uint8_t *payload = malloc(limit ? limit : 1);
        trec_frame_reader reader;
        if (sent == NULL || payload == NULL) {
            fail("out of memory");
        }
        trec_frame_begin(&reader, payload, limit);
        n_requests += feed_noise(&reader);
        if (i < n_frames) {
            (void)trec_frame_feed(&reader, 0); /* ends the noise */
            check_frame(sent, payload, &reader);
        }
        free(payload);
    }
    free(sent);
    printf("%lu %lu %u\n", n_noise, n_frames, n_requests);
    return 0;
}
