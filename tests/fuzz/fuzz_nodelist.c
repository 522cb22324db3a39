/* SPDX-License-Identifier: MIT */
/* Lists of nodes: any text, any number of nodes; and every set of nodes is read as it was written. */
#include "fuzz.h"

#include "cli/cli.h"
#include "policy/policy.h"

#include <errno.h>

static void any_text(int nr, const uint8_t *data, size_t size)
{
	char *text = input_text(data, size);
	uint64_t mask = 0;
	int err = nodelist_parse(text, nr, &mask);

	must(err == 0 || err == -EINVAL || err == -ENODEV);
	must(err || mask);
	must(err || nr >= 64 || !(mask >> nr));
	free(text);
}

static void there_and_back(int nr, uint64_t mask)
{
	char text[NODES_TEXT];
	uint64_t got = 0;
	int dest[64];

	mask &= nr >= 64 ? ~0ULL : (1ULL << nr) - 1;
	if (!mask)
		return;
	nodes_text(mask, text);
	must(!nodelist_parse(text, nr, &got) && got == mask);
	nodes_relative(mask, got, dest);
	for (int i = 0; i < 64; i++)
		must(dest[i] == -1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	int nr = (int8_t)input_byte(&in);

	any_text(nr, in.at, in.left);
	if (nr > 0)
		there_and_back(nr > 64 ? 64 : nr, input_u64(&in));
	return 0;
}
