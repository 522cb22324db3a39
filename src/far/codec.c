/* SPDX-License-Identifier: MIT */
/* LZ4 and zstd as the stores use them: in memory that they are given, a page at a time. */
#define LZ4_STATIC_LINKING_ONLY
#define ZSTD_STATIC_LINKING_ONLY
#include "far/codec.h"

#include <errno.h>
#include <lz4.h>
#include <zstd.h>

#define HIDDEN __attribute__((visibility("hidden")))
#define LEVEL 1

/* What the two libraries refer to and level 1 never calls (scripts/codecs). */
void codec_absent(void) HIDDEN;

void codec_absent(void)
{
	BUG_ON(true);
}

struct state {
	ZSTD_CCtx *pack;
	ZSTD_DCtx *unpack;
	char rest[] __attribute__((aligned(64)));
};

static uint64_t pack_size(void)
{
	return ALIGN_UP(ZSTD_estimateCCtxSize_usingCParams(ZSTD_getCParams(LEVEL, FAR_PAGE, 0)), 64);
}

static uint64_t unpack_size(void)
{
	return ALIGN_UP(ZSTD_estimateDCtxSize(), 64);
}

uint64_t codec_state_size(enum far_alg alg)
{
	if (alg == FAR_LZ4)
		return ALIGN_UP((uint64_t)LZ4_sizeofState(), 64);
	return sizeof(struct state) + pack_size() + unpack_size();
}

int codec_state_init(enum far_alg alg, void *mem)
{
	struct state *s = mem;
	size_t bad;

	if (alg == FAR_LZ4)
		return 0;
	s->pack = ZSTD_initStaticCCtx(s->rest, pack_size());
	s->unpack = ZSTD_initStaticDCtx(s->rest + pack_size(), unpack_size());
	if (!s->pack || !s->unpack)
		return -ENOMEM;
	/* What an object is and how long its page is need not be told in each. */
	bad = ZSTD_CCtx_setParameter(s->pack, ZSTD_c_compressionLevel, LEVEL);
	bad |= ZSTD_CCtx_setParameter(s->pack, ZSTD_c_format, ZSTD_f_zstd1_magicless);
	bad |= ZSTD_CCtx_setParameter(s->pack, ZSTD_c_contentSizeFlag, 0);
	bad |= ZSTD_DCtx_setParameter(s->unpack, ZSTD_d_format, ZSTD_f_zstd1_magicless);
	return ZSTD_isError(bad) ? -ENOMEM : 0;
}

bool codec_needs_state(enum far_alg alg)
{
	return alg != FAR_LZ4;
}

uint32_t codec_pack(enum far_alg alg, void *state, const void *page, void *out)
{
	size_t len;

	if (alg == FAR_LZ4)
		return (uint32_t)LZ4_compress_fast_extState(state, page, out, FAR_PAGE, CODEC_WORTH, 1);
	len = ZSTD_compress2(((struct state *)state)->pack, out, CODEC_WORTH, page, FAR_PAGE);
	return ZSTD_isError(len) ? 0 : (uint32_t)len;
}

bool codec_unpack(enum far_alg alg, void *state, const void *in, uint32_t len, void *dst)
{
	if (alg == FAR_LZ4)
		return LZ4_decompress_safe(in, dst, (int)len, FAR_PAGE) == FAR_PAGE;
	return ZSTD_decompressDCtx(((struct state *)state)->unpack, dst, FAR_PAGE, in, len) == FAR_PAGE;
}
