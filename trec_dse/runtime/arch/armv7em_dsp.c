/* The inner loops of products on cores with the DSP extension; other cores have portable.h's. */
#if defined(__ARM_FEATURE_DSP) && !defined(TREC_PORTABLE)

/* trec_dot_words_1x4: four words of x a turn, entered as trec_multiply is.
 *
 * r0 x, r1 first kernel, r2 step, r3 three steps, r4-r7 sums, r8 and r9 bytes of x, r10-r12 of kernels, lr turns left
 */
#define WORD(i)                                                                                                        \
    "ldr.w r9, [r0, #4*" #i "]\n"                                                                                      \
    "ldr.w r10, [r1]\n"                                                                                                \
    "ldr.w r11, [r1, r2]\n"                                                                                            \
    "sxtb16 r8, r9\n"                                                                                                  \
    "sxtb16 r9, r9, ror #8\n"                                                                                          \
    "sxtb16 r12, r10\n"                                                                                                \
    "sxtb16 r10, r10, ror #8\n"                                                                                        \
    "smlad r4, r8, r12, r4\n"                                                                                          \
    "sxtb16 r12, r11\n"                                                                                                \
    "smlad r4, r9, r10, r4\n"                                                                                          \
    "sxtb16 r11, r11, ror #8\n"                                                                                        \
    "smlad r5, r8, r12, r5\n"                                                                                          \
    "smlad r5, r9, r11, r5\n"                                                                                          \
    "ldr.w r10, [r1, r2, lsl #1]\n"                                                                                    \
    "ldr.w r11, [r1, r3]\n"                                                                                            \
    "add.w r1, r1, #4\n"                                                                                               \
    "sxtb16 r12, r10\n"                                                                                                \
    "sxtb16 r10, r10, ror #8\n"                                                                                        \
    "smlad r6, r8, r12, r6\n"                                                                                          \
    "sxtb16 r12, r11\n"                                                                                                \
    "smlad r6, r9, r10, r6\n"                                                                                          \
    "sxtb16 r11, r11, ror #8\n"                                                                                        \
    "smlad r7, r8, r12, r7\n"                                                                                          \
    "smlad r7, r9, r11, r7\n"

__asm__(".section .text.trec_dot_words_1x4, \"ax\", %progbits\n"
        ".balign 4\n"
        ".global trec_dot_words_1x4\n"
        ".type trec_dot_words_1x4, %function\n"
        ".thumb_func\n"
        "trec_dot_words_1x4:\n"
        "push {r4-r11, lr}\n"
        "ldr r12, [sp, #36]\n" /* sums */
        "add lr, r3, #3\n"
        "rsb r3, r3, #0\n" /* words to be left out of the first turn: -n_words modulo 4 */
        "and r3, r3, #3\n"
        "lsr lr, lr, #2\n"
        "sub r0, r0, r3, lsl #2\n"
        "add r3, r3, r3, lsl #1\n" /* a word is 24 instructions of 4 bytes */
        "adr r8, 1f\n"
        "add r8, r8, r3, lsl #5\n"
        "orr r8, r8, #1\n"
        "add r3, r2, r2, lsl #1\n"
        "ldm r12, {r4-r7}\n"
        "bx r8\n"
        ".balign 4\n"
        "1:\n" WORD(0) WORD(1) WORD(2) WORD(3) "subs lr, lr, #1\n"
        "add r0, r0, #16\n"
        "bne 1b\n"
        "ldr r12, [sp, #36]\n"
        "stm r12, {r4-r7}\n"
        "pop {r4-r11, pc}\n"
        ".size trec_dot_words_1x4, . - trec_dot_words_1x4\n"
        ".text\n");

/* trec_sum_terms: four terms a turn. One load brings a term's values for four neighbours, and SMLABB to SMLATT take the
 * halves, of the values 0 and 2 or 1 and 3, and of the weights.
 *
 * r0 values, r1 places, r2 weights, r3 end of the places, r4-r7 sums, r8 weights 0 and 2, r9 weights 1 and 3, r10 and r11
 * places, r12 and lr values
 */
#define TERM(place, weights, half)                                                                                     \
    place "ldr.w r12, [r0, r12]\n"                                                                                     \
    "sxtb16 lr, r12\n"                                                                                                 \
    "sxtb16 r12, r12, ror #8\n"                                                                                        \
    "smlab" half " r4, lr, " weights ", r4\n"                                                                          \
    "smlab" half " r5, r12, " weights ", r5\n"                                                                         \
    "smlat" half " r6, lr, " weights ", r6\n"                                                                          \
    "smlat" half " r7, r12, " weights ", r7\n"

__asm__(".section .text.trec_sum_terms, \"ax\", %progbits\n"
        ".balign 4\n"
        ".global trec_sum_terms\n"
        ".type trec_sum_terms, %function\n"
        ".thumb_func\n"
        "trec_sum_terms:\n"
        "push {r2, r4-r11, lr}\n"
        "ldm r2, {r4-r7}\n"
        "ldm r1, {r1, r2, r3}\n"
        "add r3, r1, r3, lsl #1\n"
        "1:\n"
        "ldr.w r10, [r1], #4\n"
        "ldr.w r11, [r1], #4\n"
        "ldr.w r9, [r2], #4\n"
        "sxtb16 r8, r9\n"
        "sxtb16 r9, r9, ror #8\n" TERM("uxth r12, r10\n", "r8", "b") TERM("lsr r12, r10, #16\n", "r9", "b")
            TERM("uxth r12, r11\n", "r8", "t") TERM("lsr r12, r11, #16\n", "r9", "t") "cmp r1, r3\n"
        "bne 1b\n"
        "pop {r2}\n"
        "stm r2, {r4-r7}\n"
        "pop {r4-r11, pc}\n"
        ".size trec_sum_terms, . - trec_sum_terms\n"
        ".text\n");

/* trec_requantize_rows: four channels of two rows a turn; SMMLAR multiplies, rounds and adds the zero point. Four rows
 * take half as many turns as there are channels, so that one number counts both down. All four in one turn would be
 * faster, but push more of the loops before and after out of a small instruction cache.
 *
 * r0 factors, r1 sums, r2 output, r3 out_c, r4-r7 factors, r8-r11 outputs, r12 twice the turns left, lr zero
 */
#define FOUR(row)                                                                                                      \
    "ldr.w r8, [r1, #" #row "]\n"                                                                                      \
    "ldr.w r9, [r1, #" #row "+16]\n"                                                                                   \
    "ldr.w r10, [r1, #" #row "+32]\n"                                                                                  \
    "ldr.w r11, [r1, #" #row "+48]\n"                                                                                  \
    "smmlar r8, r8, r4, lr\n"                                                                                          \
    "smmlar r9, r9, r5, lr\n"                                                                                          \
    "smmlar r10, r10, r6, lr\n"                                                                                        \
    "smmlar r11, r11, r7, lr\n"                                                                                        \
    "ssat r8, #8, r8\n"                                                                                                \
    "ssat r9, #8, r9\n"                                                                                                \
    "ssat r10, #8, r10\n"                                                                                              \
    "ssat r11, #8, r11\n"                                                                                              \
    "bfi r8, r9, #8, #8\n"                                                                                             \
    "bfi r8, r10, #16, #8\n"                                                                                           \
    "bfi r8, r11, #24, #8\n"                                                                                           \
    "str r8, [r2]\n"                                                                                                   \
    "add r2, r2, r3\n"

__asm__(".section .text.trec_requantize_rows, \"ax\", %progbits\n"
        ".balign 4\n"
        ".global trec_requantize_rows\n"
        ".type trec_requantize_rows, %function\n"
        ".thumb_func\n"
        "trec_requantize_rows:\n"
        "push {r4-r11, lr}\n"
        "ldr lr, [r1, #8]\n"
        "mov r1, r3\n"
        "ldr r12, [r2, #4]\n" /* count */
        "ldr r3, [r2, #12]\n" /* out_c */
        "ldr r2, [sp, #36]\n"
        "cmp r12, #0\n"
        "ble 3f\n"
        "1:\n"
        "ldm r0!, {r4-r7}\n"
        ".balign 4\n"
        "2:\n" FOUR(0) FOUR(4) "adds r1, r1, #8\n"
        "sub r12, r12, #2\n"
        "tst r12, #2\n"
        "bne 2b\n"
        "adds r1, r1, #48\n"
        "sub r2, r2, r3, lsl #2\n"
        "adds r2, r2, #4\n"
        "cmp r12, #0\n"
        "bne 1b\n"
        "3:\n"
        "pop {r4-r11, pc}\n"
        ".size trec_requantize_rows, . - trec_requantize_rows\n"
        ".text\n");

/* trec_add_words: a word of both a turn, whose bytes PKHBT and PKHTB bring together for SMLAD.
 *
 * r0 a, r1 b, r2 multipliers, r3 words left, r4-r8 values, r9 offset, r12 output
 */
__asm__(".section .text.trec_add_words, \"ax\", %progbits\n"
        ".balign 4\n"
        ".global trec_add_words\n"
        ".type trec_add_words, %function\n"
        ".thumb_func\n"
        "trec_add_words:\n"
        "push {r4-r9}\n"
        "mov r12, r0\n"
        "mov r0, r1\n"
        "mov r1, r2\n"
        "ldr r2, [r12]\n"
        "ldr r9, [r12, #4]\n"
        "ldr r12, [sp, #24]\n"
        "subs r3, r3, #1\n"
        "blt 2f\n"
        ".balign 4\n"
        "1:\n"
        "ldr.w r4, [r0], #4\n"
        "ldr.w r5, [r1], #4\n"
        "sxtb16 r6, r4\n"
        "sxtb16 r7, r5\n"
        "sxtb16 r4, r4, ror #8\n"
        "sxtb16 r5, r5, ror #8\n"
        "pkhbt r8, r6, r7, lsl #16\n"
        "pkhtb r6, r7, r6, asr #16\n"
        "pkhbt r7, r4, r5, lsl #16\n"
        "pkhtb r4, r5, r4, asr #16\n"
        "smlad r8, r8, r2, r9\n"
        "smlad r7, r7, r2, r9\n"
        "smlad r6, r6, r2, r9\n"
        "smlad r4, r4, r2, r9\n"
        "ssat r8, #8, r8, asr #14\n" /* TREC_ADD_SHIFT */
        "ssat r7, #8, r7, asr #14\n"
        "ssat r6, #8, r6, asr #14\n"
        "ssat r4, #8, r4, asr #14\n"
        "bfi r8, r7, #8, #8\n"
        "bfi r8, r6, #16, #8\n"
        "bfi r8, r4, #24, #8\n"
        "str r8, [r12], #4\n"
        "subs r3, r3, #1\n"
        "bge 1b\n"
        "2:\n"
        "pop {r4-r9}\n"
        "bx lr\n"
        ".size trec_add_words, . - trec_add_words\n"
        ".text\n");

/* trec_widen: eight bytes a turn; PKHBT and PKHTB bring neighbours together again that SXTB16 took apart.
 *
 * r0 values, r1 bytes left, r2 first, r3 row, r4-r7 and r12 bytes
 */
#define APART(word, even) "sxtb16 " even ", " word "\n" "sxtb16 " word ", " word ", ror #8\n"
#define TOGETHER(odd, even, first) "pkhbt " first ", " even ", " odd ", lsl #16\n" "pkhtb " odd ", " odd ", " even ", asr #16\n"

__asm__(".section .text.trec_widen, \"ax\", %progbits\n"
        ".balign 4\n"
        ".global trec_widen\n"
        ".type trec_widen, %function\n"
        ".thumb_func\n"
        "trec_widen:\n"
        "push {r4-r7}\n"
        "lsr r12, r2, #1\n"
        "add r3, r3, r12, lsl #4\n"
        "lsls r2, r2, #31\n" /* an odd first element: the second of a pair */
        "beq 1f\n"
        "subs r1, r1, #1\n"
        "blt 6f\n"
        "ldrsb r4, [r0], #1\n"
        "strh r4, [r3, #2]\n"
        "adds r3, r3, #16\n"
        "1:\n"
        "subs r1, r1, #8\n"
        "blt 3f\n"
        ".balign 4\n"
        "2:\n"
        "ldr r4, [r0]\n"
        "ldr r6, [r0, #4]\n"
        "adds r0, r0, #8\n" APART("r4", "r5") APART("r6", "r7") TOGETHER("r4", "r5", "r12") TOGETHER("r6", "r7", "r5")
        "str r12, [r3]\n"
        "str r4, [r3, #16]\n"
        "str r5, [r3, #32]\n"
        "str r6, [r3, #48]\n"
        "adds r3, r3, #64\n"
        "subs r1, r1, #8\n"
        "bge 2b\n"
        "3:\n"
        "lsls r2, r1, #29\n" /* bit 2 of what is left becomes the sign */
        "bpl 4f\n"
        "ldr r4, [r0], #4\n" APART("r4", "r5") TOGETHER("r4", "r5", "r12") "str r12, [r3]\n"
        "str r4, [r3, #16]\n"
        "adds r3, r3, #32\n"
        "4:\n"
        "lsls r2, r1, #30\n"
        "bpl 5f\n"
        "ldrsb r4, [r0], #1\n"
        "ldrsb r5, [r0], #1\n"
        "pkhbt r4, r4, r5, lsl #16\n"
        "str r4, [r3], #16\n"
        "5:\n"
        "lsls r2, r1, #31\n"
        "beq 6f\n"
        "ldrsb r4, [r0]\n"
        "strh r4, [r3]\n"
        "6:\n"
        "pop {r4-r7}\n"
        "bx lr\n"
        ".size trec_widen, . - trec_widen\n"
        ".text\n");

/* trec_add_quads: four pairs of elements a turn. r0 row, r1 turns left, r2 sums */
#define TWO_PAIRS(row, sums)                                                                                           \
    "ldr r3, [r0, #" #row "]\n"                                                                                        \
    "ldr r4, [r0, #" #row "+16]\n"                                                                                     \
    "ldr r5, [r2, #" #sums "]\n"                                                                                       \
    "ldr r6, [r2, #" #sums "+4]\n"                                                                                     \
    "ldr r7, [r2, #" #sums "+32]\n"                                                                                    \
    "ldr r12, [r2, #" #sums "+36]\n"                                                                                   \
    "sxtah r5, r5, r3\n"                                                                                               \
    "add r6, r6, r3, asr #16\n"                                                                                        \
    "sxtah r7, r7, r4\n"                                                                                               \
    "add r12, r12, r4, asr #16\n"                                                                                      \
    "str r5, [r2, #" #sums "]\n"                                                                                       \
    "str r6, [r2, #" #sums "+4]\n"                                                                                     \
    "str r7, [r2, #" #sums "+32]\n"                                                                                    \
    "str r12, [r2, #" #sums "+36]\n"

__asm__(".section .text.trec_add_quads, \"ax\", %progbits\n"
        ".balign 4\n"
        ".global trec_add_quads\n"
        ".type trec_add_quads, %function\n"
        ".thumb_func\n"
        "trec_add_quads:\n"
        "push {r4-r7}\n"
        "1:\n" TWO_PAIRS(0, 0) TWO_PAIRS(32, 64) "adds r0, r0, #64\n"
        "adds r2, r2, #128\n"
        "subs r1, r1, #1\n"
        "bne 1b\n"
        "pop {r4-r7}\n"
        "bx lr\n"
        ".size trec_add_quads, . - trec_add_quads\n"
        ".text\n");

#endif
