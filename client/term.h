/*
 * The terminal: colours when wanted, tables, a progress line, sizes and times for people.
 *
 * It knows nothing of the daemon. Data goes to stdout, everything else to stderr; a progress line
 * is only ever drawn on a terminal.
 */
#ifndef BN_CLIENT_TERM_H
#define BN_CLIENT_TERM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum bn_colour {
	BN_COLOUR_PLAIN,
	BN_COLOUR_BOLD,
	BN_COLOUR_DIM,
	BN_COLOUR_RED,
	BN_COLOUR_GREEN,
	BN_COLOUR_YELLOW,
	BN_COLOUR_CYAN,
};

/* What one output stream can do. */
struct bn_term {
	FILE *to;
	bool terminal;
	bool colour;
	unsigned width; /* columns; 80 when unknown */
	bool line_open; /* a progress line stands there and must be wiped before other text */
};

/* `no_colour` comes from the option and from NO_COLOR and TERM=dumb, read in main(). */
void bn_term_init(struct bn_term *t, FILE *to, bool no_colour);

/* The escape sequence that starts a colour, "" when colours are off; PLAIN ends it. */
const char *bn_term_colour(const struct bn_term *t, enum bn_colour colour);

/* Draws "label [#####     ]  42 %  text" over the current line; nothing off a terminal.
 * fraction is in 0..1; negative means "not known" and draws no bar. */
void bn_term_progress(struct bn_term *t, const char *label, double fraction, const char *text);

/* Wipes the progress line, if one stands there. */
void bn_term_progress_end(struct bn_term *t);

/* "1.2 GiB", "340 MiB", "17 B". Returns text. */
char *bn_term_bytes(char *text, size_t size, int64_t bytes);

/* "45 ms", "3.2 s", "5 min", "2 h". Returns text. */
char *bn_term_ms(char *text, size_t size, int64_t ms);

/* Foreign text for a terminal: control characters (ESC among them) become '?', newlines and tabs
 * stay when `multiline`. Writes to t. */
void bn_term_write(const struct bn_term *t, const char *at, size_t n, bool multiline);

/* ---- tables: collected, then printed with aligned columns ------------------------------- */

enum { BN_TABLE_COLUMNS = 10, BN_TABLE_CELL_BYTES = 96 };

struct bn_table_cell {
	char text[BN_TABLE_CELL_BYTES];
	enum bn_colour colour;
};

struct bn_table {
	unsigned columns;
	bool right[BN_TABLE_COLUMNS]; /* numbers stand right */
	const char *head[BN_TABLE_COLUMNS];
	struct bn_table_cell (*rows)[BN_TABLE_COLUMNS]; /* owned */
	size_t n_rows;
	size_t room;
};

/* heads: one per column; a leading '>' aligns right. Strings must outlive the table. */
void bn_table_init(struct bn_table *b, unsigned columns, const char *const *heads);

/* Starts a row; false without memory. Then set its cells, in any order. */
bool bn_table_row(struct bn_table *b);
void bn_table_cell(struct bn_table *b, unsigned column, enum bn_colour colour, const char *format,
		   ...) __attribute__((format(printf, 4, 5)));

/* Prints and forgets the rows. Widths count characters, not bytes. */
void bn_table_print(struct bn_table *b, const struct bn_term *t);
void bn_table_finish(struct bn_table *b);

#endif
