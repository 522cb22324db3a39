/* SPDX-License-Identifier: MIT */
/*
 * Objects of the compressed pool whose bytes are not what they were: any bytes may come to the decoders, and a sum that
 * agrees by chance. What is a page again, or is refused; nothing beyond the page is written.
 */
#include "fuzz.h"

#include "far/codec.h"

#define GUARD 64U
#define STATE_BYTES (2UL << 20)

static void unpack_any(enum far_alg alg, void *state, const uint8_t *data, uint32_t len)
{
	static char page[2][GUARD + FAR_PAGE + GUARD] __attribute__((aligned(64)));
	bool good[2];
	/* of its own size, so that reading beyond it is seen */
	uint8_t *in = malloc(len ? len : 1);

	must(in);
	memcpy(in, data, len);
	for (int run = 0; run < 2; run++) {
		char was = (char)(0x5a << run);

		memset(page[run], was, sizeof(page[run]));
		good[run] = codec_unpack(alg, state, in, len, page[run] + GUARD);
		for (uint32_t i = 0; i < GUARD; i++)
			must(page[run][i] == was && page[run][GUARD + FAR_PAGE + i] == was);
	}
	/* a page is all of a page, whatever was there before */
	must(good[0] == good[1]);
	must(!good[0] || !memcmp(page[0] + GUARD, page[1] + GUARD, FAR_PAGE));
	free(in);
}

/* What was packed, with some bytes changed. */
static void unpack_changed(enum far_alg alg, void *state, const uint8_t *data, size_t size)
{
	static uint8_t page[FAR_PAGE] __attribute__((aligned(64))), out[CODEC_WORTH + CODEC_SLACK];
	static char back[FAR_PAGE] __attribute__((aligned(64)));
	struct input in = { data, size };
	uint32_t len;

	for (uint32_t i = 0; i < FAR_PAGE; i++)
		page[i] = size ? data[i * 7 % size] : 0;
	len = codec_pack(alg, state, page, out);
	if (!len)
		return;
	must(len <= CODEC_WORTH);
	must(codec_unpack(alg, state, out, len, back) && !memcmp(back, page, FAR_PAGE));
	for (int i = 0; i < 4 && in.left; i++) {
		uint32_t at = (uint32_t)(input_u64(&in) % len);

		out[at] ^= input_byte(&in);
	}
	unpack_any(alg, state, out, len);
	/* and the decoder is none the worse for it */
	len = codec_pack(alg, state, page, out);
	must(len && codec_unpack(alg, state, out, len, back) && !memcmp(back, page, FAR_PAGE));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char state[FAR_ALGS][STATE_BYTES] __attribute__((aligned(64)));
	static bool ready;

	for (int alg = 0; !ready && alg < FAR_ALGS; alg++) {
		must(codec_state_size((enum far_alg)alg) <= STATE_BYTES);
		must(!codec_state_init((enum far_alg)alg, state[alg]));
	}
	ready = true;
	for (int alg = 0; alg < FAR_ALGS; alg++) {
		unpack_any((enum far_alg)alg, state[alg], data, size < FAR_PAGE ? (uint32_t)size : FAR_PAGE);
		unpack_changed((enum far_alg)alg, state[alg], data, size);
	}
	return 0;
}
