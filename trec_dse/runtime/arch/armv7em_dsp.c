/* The inner loop of every product on cores with the DSP extension; other cores have portable.h's. */
#if defined(__ARM_FEATURE_DSP) && !defined(TREC_PORTABLE)

/* trec_multiply_4x2, by hand: compilers keep too few of the eight sums in registers.
 *
 * r0 block, r1 kernels, r4-r7 sums of the first channel, r8-r11 of the second. A word of kernels holds two elements
 * of two channels; SXTB16 takes the first channel out, and with a rotation the second. Loads stand together, where
 * they overlap on a Cortex-M4, and apart from their uses, for which a Cortex-M7 would wait. Eight pairs of elements
 * are one turn of the loop; the first turn is entered where the rest of n_pairs by 8 is left. The end of the block
 * waits on the stack: there is no register left for it.
 */
#define PAIR(i)                                                                                                        \
    "ldr.w r2, [r1, #4*" #i "]\n"                                                                                      \
    "ldr.w r12, [r0, #16*" #i "]\n"                                                                                    \
    "ldr.w lr, [r0, #16*" #i "+4]\n"                                                                                   \
    "sxtb16 r3, r2\n"                                                                                                  \
    "sxtb16 r2, r2, ror #8\n"                                                                                          \
    "smlad r4, r3, r12, r4\n"                                                                                          \
    "smlad r8, r2, r12, r8\n"                                                                                          \
    "smlad r5, r3, lr, r5\n"                                                                                           \
    "smlad r9, r2, lr, r9\n"                                                                                           \
    "ldr.w r12, [r0, #16*" #i "+8]\n"                                                                                  \
    "ldr.w lr, [r0, #16*" #i "+12]\n"                                                                                  \
    "smlad r6, r3, r12, r6\n"                                                                                          \
    "smlad r10, r2, r12, r10\n"                                                                                        \
    "smlad r7, r3, lr, r7\n"                                                                                           \
    "smlad r11, r2, lr, r11\n"

__asm__(".syntax unified\n"
        ".section .text.trec_multiply_4x2, \"ax\", %progbits\n"
        ".balign 4\n"
        ".global trec_multiply_4x2\n"
        ".type trec_multiply_4x2, %function\n"
        ".thumb_func\n"
        "trec_multiply_4x2:\n"
        "push {r3-r11, lr}\n"
        "add r12, r0, r2, lsl #4\n"
        "str r12, [sp, #-4]!\n"
        "ldm r3, {r4-r11}\n"
        "rsb r2, r2, #0\n" /* pairs to be left out of the first turn: -n_pairs modulo 8 */
        "and r2, r2, #7\n"
        "sub r0, r0, r2, lsl #4\n"
        "sub r1, r1, r2, lsl #2\n"
        "rsb r2, r2, r2, lsl #4\n" /* a pair is 15 instructions of 4 bytes */
        "adr r3, 1f\n"
        "add r3, r3, r2, lsl #2\n"
        "orr r3, r3, #1\n"
        "bx r3\n"
        ".balign 4\n"
        "1:\n" PAIR(0) PAIR(1) PAIR(2) PAIR(3) PAIR(4) PAIR(5) PAIR(6) PAIR(7) "add r0, r0, #128\n"
        "add r1, r1, #32\n"
        "ldr r2, [sp]\n"
        "cmp r0, r2\n"
        "bne 1b\n"
        "ldr r3, [sp, #4]\n"
        "stm r3, {r4-r11}\n"
        "add sp, sp, #8\n"
        "pop {r4-r11, pc}\n"
        ".size trec_multiply_4x2, . - trec_multiply_4x2\n"
        ".text\n");

#endif
