/* The products of four rows with kernels on cores with the DSP extension; other cores have portable.h's. */
#if defined(__ARM_FEATURE_DSP) && !defined(TREC_PORTABLE)

/* trec_multiply by hand: compilers keep too few of the eight sums in registers.
 *
 * r0 block, r1 kernel, r6-r9 sums of the kernel's first channel, r10-lr of its second. A word of a kernel holds two
 * elements of two channels; SXTB16 takes the first channel out, and with a rotation the second. Loads stand together,
 * where they overlap on a Cortex-M4, and apart from their uses, for which a Cortex-M7 would wait. Eight pairs of
 * elements are one turn of the loop; its first turn is entered where the rest of n_pairs by 8 is left, and both
 * pointers begin as far below the data. There is no register left for anything else, so the stack holds
 *     0 end of the block   4 start of the block   8 where the first turn is entered   12 sums
 *     16 kernel            20 step                24 kernels left
 */
#define PAIR(i)                                                                                                        \
    "ldr.n r2, [r1, #4*" #i "]\n"                                                                                      \
    "ldr.n r4, [r0, #16*" #i "]\n"                                                                                     \
    "ldr.n r5, [r0, #16*" #i "+4]\n"                                                                                   \
    "sxtb16 r3, r2\n"                                                                                                  \
    "sxtb16 r2, r2, ror #8\n"                                                                                          \
    "smlad r6, r3, r4, r6\n"                                                                                           \
    "smlad r10, r2, r4, r10\n"                                                                                         \
    "smlad r7, r3, r5, r7\n"                                                                                           \
    "smlad r11, r2, r5, r11\n"                                                                                         \
    "ldr.n r4, [r0, #16*" #i "+8]\n"                                                                                   \
    "ldr.n r5, [r0, #16*" #i "+12]\n"                                                                                  \
    "smlad r8, r3, r4, r8\n"                                                                                           \
    "smlad r12, r2, r4, r12\n"                                                                                         \
    "smlad r9, r3, r5, r9\n"                                                                                           \
    "smlad lr, r2, r5, lr\n"

__asm__(".syntax unified\n"
        ".section .text.trec_multiply, \"ax\", %progbits\n"
        ".balign 4\n"
        ".global trec_multiply\n"
        ".type trec_multiply, %function\n"
        ".thumb_func\n"
        "trec_multiply:\n"
        "push {r4-r11, lr}\n"
        "sub sp, sp, #28\n"
        "ldm r1, {r4-r7}\n" /* first, step, count, n_pairs */
        "cmp r6, #0\n"
        "ble 3f\n"
        "add r8, r0, r7, lsl #4\n"
        "rsb r7, r7, #0\n" /* pairs to be left out of the first turn: -n_pairs modulo 8 */
        "and r7, r7, #7\n"
        "sub r9, r0, r7, lsl #4\n"
        "sub r4, r4, r7, lsl #2\n"
        "add r7, r7, r7, lsl #2\n" /* a pair is 50 bytes of code */
        "add r7, r7, r7, lsl #2\n"
        "adr r10, 2f\n"
        "add r10, r10, r7, lsl #1\n"
        "orr r10, r10, #1\n"
        "strd r8, r9, [sp]\n"
        "strd r10, r2, [sp, #8]\n"
        "strd r4, r5, [sp, #16]\n"
        "str r6, [sp, #24]\n"
        "1:\n"
        "ldr r3, [sp, #12]\n"
        "ldr r0, [sp, #4]\n"
        "ldr r1, [sp, #16]\n"
        "ldr r2, [sp, #8]\n"
        "ldm r3, {r6-r12, lr}\n"
        "bx r2\n"
        ".balign 4\n"
        "2:\n" PAIR(0) PAIR(1) PAIR(2) PAIR(3) PAIR(4) PAIR(5) PAIR(6) PAIR(7) "ldr r2, [sp]\n"
        "adds r0, r0, #128\n"
        "adds r1, r1, #32\n"
        "cmp r0, r2\n"
        "bne 2b\n"
        "ldr r3, [sp, #12]\n"
        "ldr r0, [sp, #16]\n"
        "ldr r1, [sp, #20]\n"
        "ldr r2, [sp, #24]\n"
        "stm r3!, {r6-r12, lr}\n"
        "add r0, r0, r1\n"
        "str r3, [sp, #12]\n"
        "str r0, [sp, #16]\n"
        "subs r2, r2, #1\n"
        "str r2, [sp, #24]\n"
        "bne 1b\n"
        "3:\n"
        "add sp, sp, #28\n"
        "pop {r4-r11, pc}\n"
        ".size trec_multiply, . - trec_multiply\n"
        ".text\n");

/* trec_multiply_narrow: the loop of trec_multiply, entered alike. Around it two kernels after the other, and for each of
 * them the blocks of centroids; at its end the rounding of four products of both. The stack holds
 *     0 end of the block    4 halves                12 shifts               20 kernel   24 where the first turn is entered
 *     28 table   32 bytes of a row   36 bytes of a block   40 bytes left out   44 end of the last block
 *     48 first block   52 table of the kernel   56 kernels left   60 kernel step   64 narrow
 */
__asm__(".section .text.trec_multiply_narrow, \"ax\", %progbits\n"
        ".balign 4\n"
        ".global trec_multiply_narrow\n"
        ".type trec_multiply_narrow, %function\n"
        ".thumb_func\n"
        "trec_multiply_narrow:\n"
        "push {r4-r11, lr}\n"
        "sub sp, sp, #68\n"
        "ldm r1, {r4-r7}\n"     /* first, step, count, n_pairs */
        "ldrd r10, r11, [r2]\n" /* n_blocks, row_step */
        "cmp r6, #0\n"
        "ble 4f\n"
        "strd r6, r5, [sp, #56]\n"
        "str r11, [sp, #32]\n"
        "lsl r8, r7, #4\n"
        "mla r10, r10, r8, r0\n"
        "str r10, [sp, #44]\n"
        "rsb r7, r7, #0\n"
        "and r7, r7, #7\n"
        "lsl r9, r7, #4\n"
        "strd r8, r9, [sp, #36]\n"
        "strd r0, r3, [sp, #48]\n"
        "add r2, r2, #8\n"
        "str r2, [sp, #64]\n"
        "sub r4, r4, r7, lsl #2\n"
        "add r7, r7, r7, lsl #2\n"
        "add r7, r7, r7, lsl #2\n"
        "adr r10, 3f\n"
        "add r10, r10, r7, lsl #1\n"
        "orr r10, r10, #1\n"
        "strd r4, r10, [sp, #20]\n"
        "1:\n"
        "ldrd r0, r3, [sp, #48]\n"
        "ldr r2, [sp, #64]\n"
        "ldrd r4, r5, [r2]\n"
        "ldrd r6, r7, [r2, #32]\n"
        "strd r4, r5, [sp, #4]\n"
        "strd r6, r7, [sp, #12]\n"
        "str r3, [sp, #28]\n"
        "ldrd r2, r3, [sp, #36]\n"
        "add r2, r2, r0\n"
        "str r2, [sp]\n"
        "sub r0, r0, r3\n"
        "2:\n"
        "ldrd r6, r10, [sp, #4]\n"
        "ldrd r1, r2, [sp, #20]\n"
        "mov r7, r6\n"
        "mov r8, r6\n"
        "mov r9, r6\n"
        "mov r11, r10\n"
        "mov r12, r10\n"
        "mov lr, r10\n"
        "bx r2\n"
        ".balign 4\n"
        "3:\n" PAIR(0) PAIR(1) PAIR(2) PAIR(3) PAIR(4) PAIR(5) PAIR(6) PAIR(7) "ldr r2, [sp]\n"
        "adds r0, r0, #128\n"
        "adds r1, r1, #32\n"
        "cmp r0, r2\n"
        "bne 3b\n"
        "ldr r4, [sp, #12]\n"
        "ldr r5, [sp, #16]\n"
        "ldr r1, [sp, #28]\n"
        "ldr r3, [sp, #32]\n"
        "asr r6, r6, r4\n"
        "asr r10, r10, r5\n"
        "asr r7, r7, r4\n"
        "asr r11, r11, r5\n"
        "asr r8, r8, r4\n"
        "asr r12, r12, r5\n"
        "asr r9, r9, r4\n"
        "asr lr, lr, r5\n"
        "pkhbt r6, r6, r10, lsl #16\n"
        "pkhbt r7, r7, r11, lsl #16\n"
        "pkhbt r8, r8, r12, lsl #16\n"
        "pkhbt r9, r9, lr, lsl #16\n"
        "str r6, [r1]\n"
        "add r1, r1, r3\n"
        "str r7, [r1]\n"
        "add r1, r1, r3\n"
        "str r8, [r1]\n"
        "add r1, r1, r3\n"
        "str r9, [r1]\n"
        "add r1, r1, r3\n"
        "str r1, [sp, #28]\n"
        "ldr r3, [sp, #36]\n"
        "ldr r4, [sp, #40]\n"
        "ldr r5, [sp, #44]\n"
        "add r3, r3, r2\n"
        "str r3, [sp]\n"
        "sub r0, r0, r4\n"
        "cmp r2, r5\n"
        "bne 2b\n"
        "ldr r2, [sp, #64]\n" /* the next two kernels */
        "ldr r3, [sp, #52]\n"
        "ldrd r4, r5, [sp, #56]\n"
        "ldr r6, [sp, #20]\n"
        "adds r2, r2, #8\n"
        "adds r3, r3, #4\n"
        "add r6, r6, r5\n"
        "str r2, [sp, #64]\n"
        "str r3, [sp, #52]\n"
        "str r6, [sp, #20]\n"
        "subs r4, r4, #1\n"
        "str r4, [sp, #56]\n"
        "bne 1b\n"
        "4:\n"
        "add sp, sp, #68\n"
        "pop {r4-r11, pc}\n"
        ".size trec_multiply_narrow, . - trec_multiply_narrow\n"
        ".text\n");

#endif
