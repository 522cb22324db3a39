/* SPDX-License-Identifier: MIT */
/* Runs a fuzz target over files, or over all files of directories: for compilers without libFuzzer. */
#include "fuzz.h"

#include <dirent.h>

static int run_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data = malloc(1 << 20);
	size_t size;

	if (!f || !data) {
		perror(path);
		return 1;
	}
	size = fread(data, 1, 1 << 20, f);
	fclose(f);
	/* of its own size, so that reading beyond it is seen */
	data = realloc(data, size ? size : 1);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	return 0;
}

static int run_directory(DIR *dir, const char *path, int *nr)
{
	struct dirent *entry;
	int bad = 0;

	while ((entry = readdir(dir))) {
		char file[4096];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
		bad += run_file(file);
		(*nr)++;
	}
	return bad;
}

int main(int argc, char **argv)
{
	int nr = 0, bad = 0;

	for (int i = 1; i < argc; i++) {
		DIR *dir = opendir(argv[i]);

		if (dir) {
			bad += run_directory(dir, argv[i], &nr);
			closedir(dir);
		} else {
			bad += run_file(argv[i]);
			nr++;
		}
	}
	printf("%d inputs\n", nr);
	return bad || !nr;
}
