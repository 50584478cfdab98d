/* The functions that a compiler may call on its own; there is no C library to bring them. */
#include <stddef.h>
#include <stdint.h>

/* May lie anywhere and alias anything, as memcpy's arguments do. */
typedef struct {
    uint32_t value;
} __attribute__((packed, may_alias)) word;

/* Keeps the compiler from recognizing the loop and replacing it by a call to the function that it is in. */
#define KEEP_LOOP() __asm__ volatile("" ::: "memory")

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);

static void copy_forwards(uint8_t *to, const uint8_t *from, size_t size)
{
    for (; size >= 4; size -= 4, to += 4, from += 4) {
        ((word *)to)->value = ((const word *)from)->value;
        KEEP_LOOP();
    }
    for (; size > 0; size--) {
        *to++ = *from++;
        KEEP_LOOP();
    }
}

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    copy_forwards(to, from, size);
    return to;
}

void *memmove(void *to, const void *from, size_t size)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if ((uintptr_t)t - (uintptr_t)f >= size) {
        copy_forwards(t, f, size); /* no byte is overwritten before it is read */
        return to;
    }
    while (size > 0) {
        size--;
        t[size] = f[size];
        KEEP_LOOP();
    }
    return to;
}

void *memset(void *to, int value, size_t size)
{
    uint8_t *t = to;
    const uint32_t four = (uint8_t)value * 0x01010101u;
    for (; size >= 4; size -= 4, t += 4) {
        ((word *)t)->value = four;
        KEEP_LOOP();
    }
    for (; size > 0; size--) {
        *t++ = (uint8_t)value;
        KEEP_LOOP();
    }
    return to;
}

/* Under the names of the ARM run-time ABI (IHI 0043, 4.3.4), which clang prefers; the digit promises an alignment. */
void __aeabi_memcpy(void *restrict to, const void *restrict from, size_t size);
void __aeabi_memmove(void *to, const void *from, size_t size);
void __aeabi_memset(void *to, size_t size, int value);
void __aeabi_memclr(void *to, size_t size);

void __aeabi_memcpy(void *restrict to, const void *restrict from, size_t size)
{
    copy_forwards(to, from, size);
}

void __aeabi_memmove(void *to, const void *from, size_t size)
{
    (void)memmove(to, from, size);
}

void __aeabi_memset(void *to, size_t size, int value)
{
    (void)memset(to, value, size);
}

void __aeabi_memclr(void *to, size_t size)
{
    (void)memset(to, 0, size);
}

#define ALIAS_OF(name) __attribute__((alias(#name)))
void __aeabi_memcpy4(void *restrict to, const void *restrict from, size_t size) ALIAS_OF(__aeabi_memcpy);
void __aeabi_memcpy8(void *restrict to, const void *restrict from, size_t size) ALIAS_OF(__aeabi_memcpy);
void __aeabi_memmove4(void *to, const void *from, size_t size) ALIAS_OF(__aeabi_memmove);
void __aeabi_memmove8(void *to, const void *from, size_t size) ALIAS_OF(__aeabi_memmove);
void __aeabi_memset4(void *to, size_t size, int value) ALIAS_OF(__aeabi_memset);
void __aeabi_memset8(void *to, size_t size, int value) ALIAS_OF(__aeabi_memset);
void __aeabi_memclr4(void *to, size_t size) ALIAS_OF(__aeabi_memclr);
void __aeabi_memclr8(void *to, size_t size) ALIAS_OF(__aeabi_memclr);
