/*
 * Widths are counted in code points. That is wrong for wide East Asian characters and right for
 * everything bnctl prints itself; model names are ASCII by the daemon's rule.
 */
#include "client/term.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

void bn_term_init(struct bn_term *t, FILE *to, bool no_colour)
{
	struct winsize size;

	t->to = to;
	t->terminal = isatty(fileno(to)) == 1;
	t->colour = t->terminal && !no_colour;
	t->width = 80;
	t->line_open = false;
	if (t->terminal && ioctl(fileno(to), TIOCGWINSZ, &size) == 0 && size.ws_col >= 20) {
		t->width = size.ws_col;
	}
}

const char *bn_term_colour(const struct bn_term *t, enum bn_colour colour)
{
	static const char *const codes[] = {
		[BN_COLOUR_PLAIN] = "\033[0m",  [BN_COLOUR_BOLD] = "\033[1m",
		[BN_COLOUR_DIM] = "\033[2m",    [BN_COLOUR_RED] = "\033[31m",
		[BN_COLOUR_GREEN] = "\033[32m", [BN_COLOUR_YELLOW] = "\033[33m",
		[BN_COLOUR_CYAN] = "\033[36m",
	};

	return t->colour ? codes[colour] : "";
}

void bn_term_progress(struct bn_term *t, const char *label, double fraction, const char *text)
{
	enum { BAR = 28 };
	char bar[BAR + 1];

	if (!t->terminal) {
		return;
	}
	if (fraction < 0) {
		fprintf(t->to, "\r\033[K%s  %s", label, text);
	} else {
		int filled = (int)((fraction > 1 ? 1 : fraction) * BAR);

		memset(bar, '-', BAR);
		memset(bar, '#', (size_t)filled);
		bar[BAR] = '\0';
		fprintf(t->to, "\r\033[K%s [%s%s%s] %3d %%  %s", label,
			bn_term_colour(t, BN_COLOUR_GREEN), bar, bn_term_colour(t, BN_COLOUR_PLAIN),
			(int)(fraction * 100), text);
	}
	fflush(t->to);
	t->line_open = true;
}

void bn_term_progress_end(struct bn_term *t)
{
	if (t->line_open) {
		fputs("\r\033[K", t->to);
		fflush(t->to);
		t->line_open = false;
	}
}

char *bn_term_bytes(char *text, size_t size, int64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double value = (double)bytes;
	unsigned unit = 0;

	while (value >= 1024 && unit < 4) {
		value /= 1024;
		unit++;
	}
	snprintf(text, size, unit > 0 && value < 100 ? "%.1f %s" : "%.0f %s", value, units[unit]);
	return text;
}

char *bn_term_ms(char *text, size_t size, int64_t ms)
{
	if (ms < 1000) {
		snprintf(text, size, "%" PRId64 " ms", ms);
	} else if (ms < 60000) {
		snprintf(text, size, "%.1f s", (double)ms / 1e3);
	} else if (ms < 3600000) {
		snprintf(text, size, "%.0f min", (double)ms / 60e3);
	} else {
		snprintf(text, size, "%.1f h", (double)ms / 3600e3);
	}
	return text;
}

void bn_term_write(const struct bn_term *t, const char *at, size_t n, bool multiline)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)at[i];
		bool control = c < 0x20 || c == 0x7f;

		/* U+0080..U+009F are the C1 controls, as good as ESC on some terminals. */
		if (c == 0xc2 && i + 1 < n && (unsigned char)at[i + 1] < 0xa0) {
			fputc('?', t->to);
			i++;
		} else if (control && !(multiline && (c == '\n' || c == '\t'))) {
			fputc('?', t->to);
		} else {
			fputc(c, t->to);
		}
	}
}

void bn_table_init(struct bn_table *b, unsigned columns, const char *const *heads)
{
	memset(b, 0, sizeof(*b));
	b->columns = columns;
	for (unsigned i = 0; i < columns; i++) {
		b->right[i] = heads[i][0] == '>';
		b->head[i] = heads[i] + (b->right[i] ? 1 : 0);
	}
}

bool bn_table_row(struct bn_table *b)
{
	if (b->n_rows == b->room) {
		size_t room = b->room == 0 ? 16 : b->room * 2;
		void *rows = realloc(b->rows, room * sizeof(*b->rows));

		if (rows == NULL) {
			return false;
		}
		b->rows = rows;
		b->room = room;
	}
	memset(b->rows[b->n_rows++], 0, sizeof(*b->rows));
	return true;
}

void bn_table_cell(struct bn_table *b, unsigned column, enum bn_colour colour, const char *format,
		   ...)
{
	struct bn_table_cell *cell = &b->rows[b->n_rows - 1][column];
	va_list args;

	va_start(args, format);
	vsnprintf(cell->text, sizeof(cell->text), format, args);
	va_end(args);
	cell->colour = colour;
	for (char *p = cell->text; *p != '\0'; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f) {
			*p = '?';
		}
	}
}

static unsigned characters(const char *text)
{
	unsigned n = 0;

	for (; *text != '\0'; text++) {
		n += ((unsigned char)*text & 0xc0) != 0x80;
	}
	return n;
}

static void print_cell(const struct bn_term *t, const char *text, enum bn_colour colour,
		       unsigned width, bool right, bool last)
{
	unsigned pad = width - characters(text);

	if (right) {
		fprintf(t->to, "%*s", (int)pad, "");
	}
	if (colour == BN_COLOUR_PLAIN) {
		fputs(text, t->to);
	} else {
		fprintf(t->to, "%s%s%s", bn_term_colour(t, colour), text,
			bn_term_colour(t, BN_COLOUR_PLAIN));
	}
	if (last) {
		fputc('\n', t->to);
	} else {
		fprintf(t->to, "%*s", (int)(right ? 2 : pad + 2), "");
	}
}

void bn_table_print(struct bn_table *b, const struct bn_term *t)
{
	unsigned width[BN_TABLE_COLUMNS];

	for (unsigned c = 0; c < b->columns; c++) {
		width[c] = characters(b->head[c]);
		for (size_t r = 0; r < b->n_rows; r++) {
			unsigned w = characters(b->rows[r][c].text);

			width[c] = w > width[c] ? w : width[c];
		}
	}
	for (unsigned c = 0; c < b->columns; c++) {
		print_cell(t, b->head[c], BN_COLOUR_BOLD, width[c], b->right[c],
			   c + 1 == b->columns);
	}
	for (size_t r = 0; r < b->n_rows; r++) {
		for (unsigned c = 0; c < b->columns; c++) {
			print_cell(t, b->rows[r][c].text, b->rows[r][c].colour, width[c],
				   b->right[c], c + 1 == b->columns);
		}
	}
	b->n_rows = 0;
}

void bn_table_finish(struct bn_table *b)
{
	free(b->rows);
	memset(b, 0, sizeof(*b));
}
