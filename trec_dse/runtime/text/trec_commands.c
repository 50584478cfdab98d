/* What the runner expects: mlcommons/tiny, benchmark/api. Commands end in '%', answers in "m-ready". */
#include "trec_commands.h"

#include <stddef.h>

#include "trec_port.h"

#define TERMINATOR '%'
#define DEFAULT_WARM_UPS 10u
#define BYTES_PER_ROW 8u
#define TOO_LARGE 0xFFFFFFFFu

static void put(const char *text)
{
    for (; *text != 0; text++) {
        trec_port_write((uint8_t)*text);
    }
}

/* The text before a number or a name, and the text behind it. */
static void put_around(const char *before, const char *middle, const char *after)
{
    put(before);
    put(middle);
    put(after);
}

static void put_number(const char *before, uint32_t number, const char *after)
{
    char digits[11];
    uint32_t at = sizeof digits - 1u;
    digits[at] = 0;
    do {
        digits[--at] = (char)('0' + number % 10u);
        number /= 10u;
    } while (number > 0);
    put_around(before, digits + at, after);
}

/* Whether the words are equal. */
static int is(const char *word, const char *other)
{
    while (*word != 0 && *word == *other) {
        word++;
        other++;
    }
    return *word == *other;
}

/* Cuts the next word off `*rest`: its start, or NULL behind the last one. */
static char *next_word(char **rest)
{
    char *at = *rest;
    while (*at == ' ') {
        at++;
    }
    char *const word = at;
    while (*at != 0 && *at != ' ') {
        at++;
    }
    *rest = at;
    if (*at == ' ') {
        *at = 0;
        *rest = at + 1;
    }
    return *word == 0 ? NULL : word;
}

/* The number that a word is, TOO_LARGE for none and for more than 9 digits. */
static uint32_t number_of(const char *word)
{
    uint32_t number = 0;
    uint32_t n_digits = 0;
    for (; *word != 0; word++, n_digits++) {
        if (*word < '0' || *word > '9' || n_digits == 9u) {
            return TOO_LARGE;
        }
        number = 10u * number + (uint32_t)(*word - '0');
    }
    return n_digits == 0 ? TOO_LARGE : number;
}

/* 0 to 15, or more for what is no hexadecimal digit. */
static uint32_t nibble(char digit)
{
    if (digit >= '0' && digit <= '9') {
        return (uint32_t)(digit - '0');
    }
    const char lower = (char)(digit | 0x20);
    return lower >= 'a' && lower <= 'f' ? (uint32_t)(lower - 'a') + 10u : 16u;
}

static void timestamp(const trec_commands *c)
{
    if (c->device->measures_energy) {
        trec_commands_pulse();
    } else {
        put_number("m-lap-us-", trec_commands_microseconds(), "\r\n");
    }
}

static void results(const trec_commands *c)
{
    put("m-results-[");
    for (uint32_t i = 0; i < c->device->output_bytes; i++) {
        const int32_t value = c->device->output[i];
        const char *const before = value < 0 ? (i > 0 ? ",-" : "-") : (i > 0 ? "," : "");
        put_number(before, (uint32_t)(value < 0 ? -value : value), "");
    }
    put("]\r\n");
}

static void infer(const trec_commands *c, char *rest)
{
    const char *const wanted = next_word(&rest);
    const char *const warm_ups = next_word(&rest);
    const uint32_t n = wanted == NULL ? 1u : number_of(wanted);
    const uint32_t n_warm = warm_ups == NULL ? DEFAULT_WARM_UPS : number_of(warm_ups);
    if (n == 0 || n == TOO_LARGE || n_warm == TOO_LARGE) {
        put("e-[infer N W: N is 1 or more, W is 0 or more]\r\n");
        return;
    }
    if (c->n_loaded != c->device->input_bytes) {
        put_number("e-[No input: db load ", c->device->input_bytes, " and its bytes come first]\r\n");
        return;
    }
    put_number("m-warmup-start-", n_warm, "\r\n");
    for (uint32_t i = 0; i < n_warm; i++) {
        trec_commands_run();
    }
    put("m-warmup-done\r\n");
    put_number("m-infer-start-", n, "\r\n");
    trec_port_flush(); /* what is still being sent would take current from now on */
    timestamp(c);
    for (uint32_t i = 0; i < n; i++) {
        trec_commands_run();
        (void)trec_commands_microseconds(); /* or a long measurement would miss wraps of the cycle counter */
    }
    timestamp(c);
    put("m-infer-done\r\n");
    results(c);
}

static void load(trec_commands *c, char *rest)
{
    const char *const size = next_word(&rest);
    if (size == NULL || number_of(size) != c->device->input_bytes) {
        put_number("e-[db load N: the input of this network has ", c->device->input_bytes, " bytes]\r\n");
        return;
    }
    c->n_expected = c->device->input_bytes;
    c->n_loaded = 0;
    put_number("m-[Expecting ", c->n_expected, " bytes]\r\n");
}

/* Bytes as pairs of digits; a pair that is none ends the load, so that no half-loaded input is ever run. */
static void load_bytes(trec_commands *c, const char *digits)
{
    for (; digits[0] != 0 && c->n_loaded < c->n_expected; digits += 2) {
        const uint32_t high = nibble(digits[0]);
        const uint32_t low = digits[1] == 0 ? 16u : nibble(digits[1]);
        if (high > 15u || low > 15u) {
            c->n_expected = 0;
            c->n_loaded = 0;
            put_around("e-[Not pairs of hexadecimal digits: ", digits, "]\r\n");
            return;
        }
        c->device->input[c->n_loaded++] = (uint8_t)(high << 4 | low);
        if (c->n_loaded == c->n_expected) {
            c->n_expected = 0;
            put("m-load-done\r\n");
            return;
        }
    }
    if (c->n_expected == 0) {
        put("e-[No db load is under way]\r\n");
    }
}

static void print_bytes(const trec_commands *c)
{
    const char *const digits = "0123456789abcdef";
    for (uint32_t i = 0; i < c->n_loaded; i++) {
        const int is_last = i % BYTES_PER_ROW == BYTES_PER_ROW - 1u || i + 1u == c->n_loaded;
        put(i % BYTES_PER_ROW == 0 ? "m-buffer-" : "-");
        trec_port_write((uint8_t)digits[c->device->input[i] >> 4]);
        trec_port_write((uint8_t)digits[c->device->input[i] & 15u]);
        put(is_last ? "\r\n" : "");
    }
}

static void db(trec_commands *c, char *rest)
{
    const char *const word = next_word(&rest);
    if (word == NULL) {
        put("e-[db needs load N, print, or bytes]\r\n");
    } else if (is(word, "load")) {
        load(c, rest);
    } else if (is(word, "print")) {
        print_bytes(c);
    } else {
        load_bytes(c, word);
    }
}

/* By the first line the runner knows the kind of firmware, by the second which data to send. */
static void profile(const trec_commands *c)
{
    put("m-profile-[ULPMark for tinyML Firmware V0.0.1]\r\n");
    put_around("m-model-[", c->device->model, "]\r\n");
}

static void run_command(trec_commands *c)
{
    char *rest = c->line;
    const char *const word = next_word(&rest);
    if (word == NULL || is(word, "help")) {
        put("name, profile, timestamp, db load N, db HEX, db print, infer N W, results; each ends in %\r\n");
    } else if (is(word, "name")) {
        put_around("m-name-dut-[", c->device->vendor, "]\r\n");
    } else if (is(word, "profile")) {
        profile(c);
    } else if (is(word, "timestamp")) {
        timestamp(c);
    } else if (is(word, "db")) {
        db(c, rest);
    } else if (is(word, "infer")) {
        infer(c, rest);
    } else if (is(word, "results")) {
        results(c);
    } else {
        put_around("e-[Unknown command: ", word, "]\r\n");
    }
}

void trec_commands_begin(trec_commands *c, const trec_commands_device *device)
{
    c->device = device;
    c->n_expected = 0;
    c->n_loaded = 0;
    c->size = 0;
    put_around("m-timestamp-mode-", device->measures_energy ? "energy" : "performance", "\r\nm-init-done\r\nm-ready\r\n");
}

void trec_commands_feed(trec_commands *c, uint8_t byte)
{
    if (byte == TERMINATOR) {
        if (c->size > TREC_COMMAND_CHARACTERS) {
            put_number("e-[Longer than ", TREC_COMMAND_CHARACTERS, " characters]\r\n");
        } else {
            c->line[c->size] = 0;
            run_command(c);
        }
        c->size = 0;
        put("m-ready\r\n");
    } else if (byte != '\r' && byte != '\n' && byte != 0) { /* what a terminal adds at the end of a line */
        if (c->size < TREC_COMMAND_CHARACTERS) {
            c->line[c->size] = (char)byte;
        }
        c->size += c->size <= TREC_COMMAND_CHARACTERS ? 1u : 0u;
    }
}
