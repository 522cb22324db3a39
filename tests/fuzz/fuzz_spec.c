/* SPDX-License-Identifier: MIT */
/* Specifications of nodes. */
#include "fuzz.h"

#include "node/node.h"

#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = input_text(data, size);
	struct node_spec spec, again;
	size_t at = SIZE_MAX, at_again = SIZE_MAX;
	int err = node_parse(text, &spec, &at);

	must(err == 0 || err == -EINVAL);
	if (err) {
		must(at <= strlen(text));
		must(at == 0 || text[at - 1] == ',');
	} else {
		must(memchr(spec.name, '\0', sizeof(spec.name)));
		must(spec.host >= NODE_VIRTUAL && spec.host < NODE_MAX);
		must(spec.distance == 0 || (spec.distance >= 10 && spec.distance <= 255));
		must(spec.bytes == 0 || spec.bytes >= 4096);
	}
	must(node_parse(text, &again, &at_again) == err && at == at_again);
	free(text);
	return 0;
}
