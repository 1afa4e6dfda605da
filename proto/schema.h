/*
 * THE protocol, as tables. Parameter structs, decoding, validation, the client's encoding,
 * `server.info`, docs/protocol.md and the tests are all expansions of this file.
 *
 * It contains no code and no types; those are in proto/params.h and proto/message.h.
 *
 * Names and numbers are never reused and never removed, fields are only added, ranges only
 * widen; tests/proto/schema.recorded holds what was once published and a test compares.
 */
#ifndef BN_PROTO_SCHEMA_H
#define BN_PROTO_SCHEMA_H

#include <stdint.h>

/* The level grows with every addition; clients written for BN_API_COMPATIBLE or later work. */
#define BN_API_LEVEL      2
#define BN_API_COMPATIBLE 1

/* X(SYMBOL, wire name, value, sentence) */
#define BN_LIMIT_TABLE(X)                                                                     \
	X(MESSAGE_BYTES, message_bytes, 16777216, "bytes of one message, either direction")   \
	X(DEPTH, depth, 16, "containers inside each other, the message itself included")      \
	X(ELEMENTS, elements, 65536, "values in one message, all levels together")            \
	X(KEY_BYTES, key_bytes, 64, "bytes of one map key")                                   \
	X(METHOD_BYTES, method_bytes, 64, "bytes of a method name")                           \
	X(PARTIAL_MS, partial_ms, 10000, "milliseconds a started message may take to arrive") \
	X(CONNECTIONS, connections_per_uid, 256, "connections of one user")                   \
	X(REQUESTS, requests_per_connection, 64, "requests in flight before reading stops")   \
	X(ID_BYTES, id_bytes, 64, "bytes of a request id")                                    \
	X(MODEL_BYTES, model_bytes, 128, "bytes of a model name")                             \
	X(STOPS, stop_strings, 16, "stop strings of one request")                             \
	X(STOP_BYTES, stop_bytes, 256, "bytes of one stop string")                            \
	X(STOP_IDS, stop_token_ids, 64, "stop tokens of one request")                         \
	X(BIASES, logit_biases, 16384, "entries of logit_bias")                               \
	X(TURNS, chat_turns, 4096, "messages of one chat")                                    \
	X(PROMPT_IDS, prompt_ids, 4194304, "token ids of one prompt (as bin)")                \
	X(INPUTS, inputs, 2048, "texts of one embeddings call")

#define BN_LIMIT_ENUM(SYMBOL, name, value, doc) BN_LIMIT_##SYMBOL = (value),
enum bn_limit { BN_LIMIT_TABLE(BN_LIMIT_ENUM) };
#undef BN_LIMIT_ENUM

/*
 * Closed sets of words. W(set, SYMBOL, word); the enum value is the position.
 * The words of a field are BN_WORDS_<field name>.
 */
#define BN_WORDS_queue(W)            \
	W(queue, QUEUE_WAIT, "wait") \
	W(queue, QUEUE_FAIL, "fail")
#define BN_WORDS_priority(W)                             \
	W(priority, PRIORITY_INTERACTIVE, "interactive") \
	W(priority, PRIORITY_NORMAL, "normal")           \
	W(priority, PRIORITY_BATCH, "batch")
#define BN_WORDS_cache(W)            \
	W(cache, CACHE_AUTO, "auto") \
	W(cache, CACHE_OFF, "off")
#define BN_WORDS_role(W)               \
	W(role, ROLE_SYSTEM, "system") \
	W(role, ROLE_USER, "user")     \
	W(role, ROLE_ASSISTANT, "assistant")

#define BN_WORDS_encoding(W)                 \
	W(encoding, ENCODING_BIN, "bin")     \
	W(encoding, ENCODING_FLOAT, "float")

#define BN_WORD_SET_TABLE(X) X(queue) X(priority) X(cache) X(role) X(encoding)

/*
 * Fields. F(T, KIND, name, NEED, min, max, default, sentence); T is the struct they live in.
 *
 *   KIND  on the wire                       in C                    min..max counts
 *   STR   str                               struct bn_text          bytes
 *   INT   integer (a float is refused)      int64_t                 the value
 *   NUM   float or integer, finite          double                  the value
 *   BOOL  bool                              bool                    -
 *   WORD  str from BN_WORDS_<name>          uint32_t                -
 *   TIME  seconds | "1h30m" | -1            int64_t ms, -1 forever  seconds
 *   PROMPT str | [token] | bin of u32le     struct bn_prompt        tokens
 *   IDS   [token] | bin of u32le            struct bn_ids           tokens
 *   STRS  str | [str]                       struct bn_strings       strings
 *   TEXTS str | [str]                       struct bn_texts         texts, of any length
 *   BIAS  {token: float}                    struct bn_biases        entries
 *   CHAT  [{role, content}]                 struct bn_chat          turns
 *   BIN   bin                               struct bn_bytes         bytes
 *
 * NEED: MUST be there, or MAY. A field that may be absent says what happens then in `default`.
 */

/* What everything that waits for a model, a place and memory has. */
#define BN_FIELDS_waiting(F, T)                                               \
	F(T, WORD, queue, MAY, 0, 0, "wait",                                  \
	  "Whether to wait for a place and memory or to fail at once.")       \
	F(T, BOOL, autoload, MAY, 0, 0, "true",                               \
	  "Load the model if it is not in memory; false fails instead.")      \
	F(T, TIME, keep_alive, MAY, 0, 31536000, "the model's",               \
	  "How long the model stays in memory after this request.")           \
	F(T, INT, deadline_ms, MAY, 1, 86400000, "none",                      \
	  "Fail with 408 if the answer is not complete by then.")             \
	F(T, WORD, priority, MAY, 0, 0, "normal", "Class in the waiting line.") \
	F(T, STR, user, MAY, 1, 64, "none", "The caller's own label; kept out of logs.")

/* What completions and chat.completions share. */
#define BN_FIELDS_generation(F, T)                                                                 \
	F(T, STR, model, MUST, 1, BN_LIMIT_MODEL_BYTES, "", "Name or alias of the model.")         \
	F(T, STR, id, MAY, 1, BN_LIMIT_ID_BYTES, "made by the server",                             \
	  "Names the request for `cancel` and in notifications; unique among the live requests "   \
	  "of the connection.")                                                                    \
	F(T, BOOL, stream, MAY, 0, 0, "false",                                                     \
	  "Send text in `stream` notifications while it is generated; the result then carries no " \
	  "text.")                                                                                 \
	F(T, BOOL, return_progress, MAY, 0, 0, "false",                                            \
	  "With `stream`: also notify how much of the prompt has been read.")                      \
	F(T, INT, max_tokens, MAY, 1, 1048576, "what fits, at most the configured cap",            \
	  "Tokens to generate at most.")                                                           \
	F(T, NUM, temperature, MAY, 0.0, 5.0, "the model's, else 0.8",                             \
	  "Randomness; 0 always takes the likeliest token.")                                       \
	F(T, INT, top_k, MAY, 0, 1048576, "the model's, else 40",                                  \
	  "Keep the k likeliest tokens; 0 keeps all.")                                             \
	F(T, NUM, top_p, MAY, 0.0, 1.0, "the model's, else 0.95",                                  \
	  "Keep the likeliest tokens whose probabilities sum to p; 1 keeps all.")                  \
	F(T, NUM, min_p, MAY, 0.0, 1.0, "the model's, else 0.05",                                  \
	  "Drop tokens less likely than this share of the likeliest; 0 keeps all.")                \
	F(T, NUM, typical_p, MAY, 0.0, 1.0, "1", "Locally typical sampling; 1 switches it off.")   \
	F(T, NUM, repeat_penalty, MAY, 0.1, 10.0, "1",                                             \
	  "Divides the score of tokens seen in the last repeat_last_n; 1 switches it off.")        \
	F(T, INT, repeat_last_n, MAY, -1, 1048576, "64",                                           \
	  "How many tokens the penalties look back; 0 none, -1 the whole context.")                \
	F(T, NUM, presence_penalty, MAY, -2.0, 2.0, "0",                                           \
	  "Subtracted from the score of every token already seen.")                                \
	F(T, NUM, frequency_penalty, MAY, -2.0, 2.0, "0",                                          \
	  "Subtracted once for each time the token was seen.")                                     \
	F(T, INT, seed, MAY, -1, INT64_MAX, "random",                                              \
	  "Start of the random numbers, echoed in the result; -1 asks for a random one.")          \
	F(T, STRS, stop, MAY, 0, BN_LIMIT_STOPS, "none",                                           \
	  "Generation ends before any of these texts; it is not part of the answer.")              \
	F(T, IDS, stop_token_ids, MAY, 0, BN_LIMIT_STOP_IDS, "none",                               \
	  "Generation ends at any of these tokens, besides the model's own.")                      \
	F(T, BOOL, ignore_eos, MAY, 0, 0, "false", "Do not end at the model's end token.")         \
	F(T, BIAS, logit_bias, MAY, 0, BN_LIMIT_BIASES, "none",                                    \
	  "Added to the scores of tokens, -100..100; -100 in effect bans a token.")                \
	F(T, INT, logprobs, MAY, 0, 20, "off",                                                     \
	  "Report the log-probability of each token and of this many of the likeliest.")           \
	F(T, INT, num_ctx, MAY, 16, 1048576, "the model's context",                                \
	  "Longest context this request may reserve; never reloads the model.")                    \
	BN_FIELDS_waiting(F, T)                                                                    \
	F(T, INT, ttft_deadline_ms, MAY, 1, 86400000, "none",                                      \
	  "Fail with 408 if the first token has not come by then.")                                \
	F(T, WORD, cache, MAY, 0, 0, "auto",                                                       \
	  "Whether kept context of earlier requests may be used.")

#define BN_FIELDS_none(F, T)

#define BN_FIELDS_server_info(F, T)
#define BN_FIELDS_server_health(F, T)
#define BN_FIELDS_server_status(F, T)

#define BN_FIELDS_completions(F, T)                                                             \
	F(T, PROMPT, prompt, MUST, 0, BN_LIMIT_PROMPT_IDS, "",                                  \
	  "What to continue: text, or token ids as an array or as little-endian u32 in a bin.") \
	F(T, BOOL, echo, MAY, 0, 0, "false",                                                    \
	  "Put the prompt in front of the answer; not together with `logprobs`.")

#define BN_FIELDS_chat_completions(F, T)                  \
	F(T, CHAT, messages, MUST, 1, BN_LIMIT_TURNS, "", \
	  "The conversation so far; its text can never become a control token.")

#define BN_FIELDS_turn(F, T)                            \
	F(T, WORD, role, MUST, 0, 0, "", "Who speaks.") \
	F(T, STR, content, MUST, 0, BN_LIMIT_MESSAGE_BYTES, "", "What is said.")

#define BN_FIELDS_embeddings(F, T)                                                            \
	F(T, STR, model, MUST, 1, BN_LIMIT_MODEL_BYTES, "", "Name or alias of the model.")    \
	F(T, TEXTS, input, MUST, 1, BN_LIMIT_INPUTS, "",                                      \
	  "One text, or several; instructions the model was trained with are the caller's to " \
	  "write in front.")                                                                  \
	F(T, WORD, encoding, MAY, 0, 0, "bin",                                                \
	  "How vectors come: `bin` is f32le, `float` an array of float32; of those only as "  \
	  "many fit as a message may have values.")                                           \
	F(T, BOOL, truncate, MAY, 0, 0, "false",                                              \
	  "Cut texts that are longer than the context at their end instead of failing.")      \
	F(T, STR, id, MAY, 1, BN_LIMIT_ID_BYTES, "made by the server",                        \
	  "Names the request for `cancel`; unique among the live requests of the connection.") \
	BN_FIELDS_waiting(F, T)

#define BN_FIELDS_tokenize(F, T)                                                            \
	F(T, STR, model, MUST, 1, BN_LIMIT_MODEL_BYTES, "", "Name or alias of the model.")  \
	F(T, STR, content, MUST, 0, BN_LIMIT_MESSAGE_BYTES, "", "Text to cut into tokens.") \
	F(T, BOOL, add_special, MAY, 0, 0, "false",                                         \
	  "Add the tokens a prompt of this model begins with.")                             \
	F(T, BOOL, parse_special, MAY, 0, 0, "false",                                       \
	  "Read control tokens written out in the text.")                                   \
	F(T, BOOL, with_pieces, MAY, 0, 0, "false", "Also return the bytes of each token.")

#define BN_FIELDS_detokenize(F, T)                                                         \
	F(T, STR, model, MUST, 1, BN_LIMIT_MODEL_BYTES, "", "Name or alias of the model.") \
	F(T, IDS, tokens, MUST, 0, BN_LIMIT_PROMPT_IDS, "", "Tokens to turn into text.")

#define BN_FIELDS_cancel(F, T)                                                     \
	F(T, STR, id, MAY, 1, BN_LIMIT_ID_BYTES, "none", "The request to cancel.") \
	F(T, BOOL, all, MAY, 0, 0, "false", "Cancel every request of this connection.")

#define BN_FIELDS_models_list(F, T)
#define BN_FIELDS_models_ps(F, T)

#define BN_FIELDS_models_show(F, T) \
	F(T, STR, model, MUST, 1, BN_LIMIT_MODEL_BYTES, "", "Name or alias of the model.")

#define BN_FIELDS_models_load(F, T)                                                           \
	F(T, STR, model, MUST, 1, BN_LIMIT_MODEL_BYTES, "", "Name or alias of the model.")    \
	F(T, TIME, keep_alive, MAY, 0, 31536000, "the model's",                               \
	  "How long it stays in memory after its last use.")                                  \
	F(T, BOOL, pin, MAY, 0, 0, "unchanged",                                               \
	  "Never evict it to make room (true), or allow that again (false).")                 \
	F(T, BOOL, dry_run, MAY, 0, 0, "false", "Only say what would be needed and evicted.") \
	F(T, BOOL, wait, MAY, 0, 0, "true",                                                   \
	  "Answer when it is ready (true), with `stream` status events; or at once (false).") \
	F(T, STR, id, MAY, 1, BN_LIMIT_ID_BYTES, "made by the server",                        \
	  "Names the request for `cancel` and in notifications.")

#define BN_FIELDS_models_unload(F, T)                                                      \
	F(T, STR, model, MUST, 1, BN_LIMIT_MODEL_BYTES, "", "Name or alias of the model.") \
	F(T, BOOL, force, MAY, 0, 0, "false",                                              \
	  "Cancel its running requests, and unload it even if pinned.")                    \
	F(T, INT, timeout_ms, MAY, 0, 3600000, "30000",                                    \
	  "How long to wait for running requests to end.")

/*
 * Results, for people and for tests. R(path, type, sentence); `[]` steps into an array, a type
 * with a question mark may be absent.
 */
#define BN_RESULT_USAGE(R)                                                        \
	R("usage.prompt_tokens", "int", "Tokens of the prompt.")                  \
	R("usage.completion_tokens", "int", "Tokens generated.")                  \
	R("usage.cached_tokens", "int", "Prompt tokens taken from kept context.") \
	R("timings.queue_ms", "num", "Waiting for a place and for memory.")       \
	R("timings.load_ms", "num", "Waiting for the model to load.")             \
	R("timings.prefill_ms", "num", "Reading the prompt.")                     \
	R("timings.decode_ms", "num", "Generating.")                              \
	R("timings.tok_per_s", "num", "Generated tokens per second of decode_ms.")

#define BN_RESULT_LOGPROBS(R)                                                                   \
	R("tokens", "bin?", "With `logprobs`: n token ids, u32le.")                             \
	R("logprobs", "bin?", "With `logprobs`: their n log-probabilities, f32le.")             \
	R("top_tokens", "bin?", "With `logprobs` k > 0: n rows of the k likeliest ids, u32le.") \
	R("top_logprobs", "bin?", "With `logprobs` k > 0: their log-probabilities, f32le.")

#define BN_RESULT_GENERATION(R)                                                   \
	R("id", "str", "The request's id.")                                       \
	R("model", "str", "The model's own name, aliases resolved.")              \
	R("digest", "str", "Digest of the model file.")                           \
	R("kernel", "str", "The kernel that multiplied.")                         \
	R("finish_reason", "str", "`stop` (end token or stop text) or `length`.") \
	R("seed", "int", "The seed used; the same request with it gives the same bytes.")

#define BN_RESULT_completions(R)                                      \
	BN_RESULT_GENERATION(R)                                       \
	R("text", "str?", "The answer; absent when it was streamed.") \
	BN_RESULT_LOGPROBS(R)                                         \
	BN_RESULT_USAGE(R)

#define BN_RESULT_chat_completions(R)                                            \
	BN_RESULT_GENERATION(R)                                                  \
	R("message.role", "str", "Always `assistant`.")                          \
	R("message.content", "str?", "The answer; absent when it was streamed.") \
	BN_RESULT_LOGPROBS(R)                                                    \
	BN_RESULT_USAGE(R)

#define BN_RESULT_embeddings(R)                                                              \
	R("id", "str", "The request's id.")                                                  \
	R("model", "str", "The model's own name, aliases resolved.")                         \
	R("digest", "str", "Digest of the model file.")                                      \
	R("kernel", "str", "The kernel that multiplied.")                                    \
	R("dim", "int", "Numbers in a vector.")                                              \
	R("data[]", "bin|[num]",                                                             \
	  "The vector of each text, in their order, of length 1: f32le, or with `encoding` " \
	  "`float` an array.")                                                               \
	R("truncated", "[int]?", "With `truncate`: the texts that were cut, counted from 0.") \
	R("usage.prompt_tokens", "int", "Tokens of all texts, those added around them too.") \
	R("timings.total_ms", "num", "From the call to the answer.")

#define BN_RESULT_server_info(R)                                                    \
	R("server", "str", "Always `bnd`.")                                         \
	R("version", "str", "Version of the daemon.")                               \
	R("api_level", "int", "Level of this protocol; grows with every addition.") \
	R("api_compatible", "int", "Oldest level whose clients still work.")        \
	R("methods[].name", "str", "Name on the wire.")                             \
	R("methods[].since", "int", "Level that brought it.")                       \
	R("methods[].role", "str", "`user` or `admin`.")                            \
	R("methods[].stream", "bool", "Whether it sends `stream` notifications.")   \
	R("methods[].doc", "str", "One sentence.")                                  \
	R("methods[].params[].name", "str", "Field name.")                          \
	R("methods[].params[].type", "str", "Field type, as in this page.")         \
	R("methods[].params[].required", "bool", "Whether it must be given.")       \
	R("methods[].params[].min", "int|num?", "Least value, bytes or count.")     \
	R("methods[].params[].max", "int|num?", "Greatest value, bytes or count.")  \
	R("methods[].params[].words", "[str]?", "The words allowed.")               \
	R("methods[].params[].default", "str?", "What happens without it.")         \
	R("methods[].params[].doc", "str", "One sentence.")                         \
	R("notifications[].name", "str", "Name on the wire.")                       \
	R("notifications[].events", "[str]", "Its events.")                         \
	R("errors[].code", "int", "Number on the wire.")                            \
	R("errors[].kind", "str", "Word that tells errors of one number apart.")    \
	R("errors[].doc", "str", "One sentence.")                                   \
	R("limits", "{str: int}", "Every limit of this page by name.")              \
	R("features", "[str]", "Optional abilities of this daemon.")

#define BN_RESULT_server_health(R)                          \
	R("live", "bool", "Always true: the loop answers.") \
	R("ready", "bool", "Whether work is accepted.")     \
	R("reason", "str?", "Why it is not ready.")

#define BN_RESULT_MEMORY(R)                                          \
	R("memory.budget_bytes", "int", "What bnd may use.")         \
	R("memory.used_bytes", "int", "What it has reserved.")       \
	R("memory.weights_bytes", "int", "Of that, weights.")        \
	R("memory.kv_bytes", "int", "Of that, context of requests.") \
	R("memory.scratch_bytes", "int", "Of that, working space.")

#define BN_RESULT_PS(R)                                                                       \
	R("models[].model", "str", "Name.")                                                   \
	R("models[].state", "str", "`loading`, `ready` or `draining`.")                       \
	R("models[].kernel", "str?", "The kernel that multiplies; when ready.")               \
	R("models[].weights_bytes", "int", "Its weights in memory.")                          \
	R("models[].kv_bytes", "int", "Context of its requests.")                             \
	R("models[].scratch_bytes", "int", "Its working space.")                              \
	R("models[].running", "int", "Requests being computed.")                              \
	R("models[].queued", "int", "Requests waiting.")                                      \
	R("models[].pinned", "bool", "Whether it is never evicted.")                          \
	R("models[].progress", "num?", "While loading: 0..1.")                                \
	R("models[].keep_alive_ms", "int?", "How long it stays when idle; absent: for ever.") \
	R("models[].expires_ms", "int?", "Unix time at which it will leave; when idle.")      \
	R("models[].loaded_ms", "int?", "Unix time at which it was loaded.")                  \
	R("models[].last_used_ms", "int?", "Unix time of its last request.")

#define BN_RESULT_server_status(R)                                                    \
	R("version", "str", "Version of the daemon.")                                 \
	R("uptime_ms", "int", "Since the start.")                                     \
	R("ready", "bool", "Whether work is accepted.")                               \
	R("lanes", "int", "Worker threads.")                                          \
	R("processor", "str", "Processor features in use, words with spaces.")        \
	R("step.rows", "int", "Most tokens one step computes.")                       \
	R("step.outputs", "int", "Most requests one step computes.")                  \
	R("connections", "int", "Open connections.")                                  \
	BN_RESULT_MEMORY(R)                                                           \
	R("requests.running", "int", "Being computed.")                               \
	R("requests.queued", "int", "Waiting.")                                       \
	R("requests.queued_interactive", "int", "Of those, priority interactive.")    \
	R("requests.queued_normal", "int", "Of those, priority normal.")              \
	R("requests.queued_batch", "int", "Of those, priority batch.")                \
	R("totals.requests", "int", "Generations since the start.")                   \
	R("totals.prompt_tokens", "int", "Prompt tokens since the start.")            \
	R("totals.completion_tokens", "int", "Generated tokens since the start.")     \
	R("totals.cancelled", "int", "Requests cancelled since the start.")           \
	R("totals.failed", "int", "Requests that ended in an error since the start.") \
	R("own.connections", "int", "Of the caller's uid.")                           \
	R("own.running", "int", "Of the caller's uid.")                               \
	R("own.queued", "int", "Of the caller's uid.")                                \
	R("models[]", "map", "As in models.ps.")

#define BN_RESULT_tokenize(R)                   \
	R("n", "int", "Number of tokens.")      \
	R("tokens", "bin", "Their ids, u32le.") \
	R("pieces", "[bin]?", "With `with_pieces`: the bytes of each token.")

#define BN_RESULT_detokenize(R) \
	R("content", "str", "The text; bytes that are no UTF-8 become U+FFFD.")

#define BN_RESULT_cancel(R) R("cancelled", "[str]", "Ids of the requests that were cancelled.")

#define BN_RESULT_models_list(R)                                                           \
	R("models[].model", "str", "Name.")                                                \
	R("models[].aliases", "[str]", "Other names.")                                     \
	R("models[].state", "str", "`cold`, `loading`, `ready`, `draining` or `failed`.")  \
	R("models[].size_bytes", "int?", "Size of the file; absent if it cannot be read.") \
	R("models[].context", "int?", "Longest context served; once known.")               \
	R("models[].known", "str?", "The published model it is; once known.")              \
	R("models[].pinned", "bool", "Whether it is never evicted.")                       \
	R("models[].error", "str?", "Why it failed.")

#define BN_RESULT_models_ps(R)                                                         \
	BN_RESULT_PS(R)                                                                \
	BN_RESULT_MEMORY(R)                                                            \
	R("evictions[].model", "str", "Who left memory, newest first.")                \
	R("evictions[].reason", "str", "Why: `memory`, `idle`, `unload` or `reload`.") \
	R("evictions[].for", "str?", "For whom, when the reason is memory.")           \
	R("evictions[].freed_bytes", "int", "What that freed.")                        \
	R("evictions[].ts_ms", "int", "Unix time.")

#define BN_RESULT_models_show(R)                                                     \
	R("model", "str", "Name.")                                                   \
	R("aliases", "[str]", "Other names.")                                        \
	R("state", "str", "As in models.list.")                                      \
	R("error", "str?", "Why it failed.")                                         \
	R("path", "str", "The file.")                                                \
	R("size_bytes", "int?", "Its size.")                                         \
	R("digest", "str?", "Its digest; once loaded.")                              \
	R("known", "str?", "The published model it is.")                             \
	R("licence", "str?", "Its licence, as the file says.")                       \
	R("architecture", "str?", "Its family, as the file says.")                   \
	R("parameters", "int?", "Number of weights.")                                \
	R("context", "int?", "Longest context served.")                              \
	R("layers", "int?", "Transformer layers.")                                   \
	R("dim", "int?", "Width of a layer.")                                        \
	R("heads", "int?", "Attention heads.")                                       \
	R("kv_heads", "int?", "Key and value heads.")                                \
	R("vocabulary", "int?", "Number of tokens.")                                 \
	R("template", "str?", "Chat template in use.")                               \
	R("pooling", "str?", "How vectors are made: `mean`, `first`, `last`; absent: it generates.") \
	R("kernel", "str?", "The kernel that multiplies.")                           \
	R("kernel_reason", "str?", "Why that one.")                                  \
	R("warnings", "[str]?", "What about its file may make answers worse.")       \
	R("pinned", "bool", "Whether it is never evicted.")                          \
	R("keep_alive_ms", "int?", "How long it stays when idle; absent: for ever.") \
	R("bytes.weights", "int?", "Weights in memory.")                             \
	R("bytes.kv_per_token", "int?", "Context memory per token.")                 \
	R("bytes.scratch", "int?", "Working space.")                                 \
	R("sampling", "map?", "The model's own sampling defaults.")

#define BN_RESULT_models_load(R)                                               \
	R("model", "str", "Name.")                                             \
	R("state", "str", "State after the call.")                             \
	R("bytes.weights", "int", "Memory for weights.")                       \
	R("bytes.kv", "int", "Memory one request of full context would take.") \
	R("bytes.scratch", "int", "Working space.")                            \
	R("would_evict", "[str]?", "With `dry_run`: who would have to leave.") \
	R("fits", "bool?", "With `dry_run`: whether it can be loaded now.")    \
	R("kernel", "str?", "The kernel that multiplies; when ready.")         \
	R("self_test", "str?", "`passed` once the kernel has equalled the reference; when ready.")

#define BN_RESULT_models_unload(R)                 \
	R("model", "str", "Name.")                 \
	R("state", "str", "State after the call.") \
	R("freed_bytes", "int", "What that freed.")

/*
 * Methods. X(SYMBOL, word, "wire.name", since, right, stream, group, sentence)
 *   word    names BN_FIELDS_<word>, BN_RESULT_<word>, struct bn_params_<word>
 *   right   USER or ADMIN
 *   stream  whether `stream` notifications may precede the response
 *   group   fields shared with other methods: BN_FIELDS_<group>, or none
 */
#define BN_METHOD_TABLE(X)                                                                       \
	X(SERVER_INFO, server_info, "server.info", 1, USER, false, none,                         \
	  "Describes the protocol: methods, fields, ranges, errors, limits.")                    \
	X(SERVER_HEALTH, server_health, "server.health", 1, USER, false, none,                   \
	  "Says whether the daemon is alive and ready for work.")                                \
	X(SERVER_STATUS, server_status, "server.status", 1, USER, false, none,                   \
	  "Shows memory, models, queues and the caller's own use.")                              \
	X(COMPLETIONS, completions, "completions", 1, USER, true, generation,                    \
	  "Continues a prompt.")                                                                 \
	X(CHAT_COMPLETIONS, chat_completions, "chat.completions", 1, USER, true, generation,     \
	  "Answers a conversation, using the model's chat template.")                            \
	X(EMBEDDINGS, embeddings, "embeddings", 2, USER, false, none,                            \
	  "Makes a vector of each text, with a model that makes vectors.")                       \
	X(TOKENIZE, tokenize, "tokenize", 1, USER, false, none, "Cuts text into tokens.")        \
	X(DETOKENIZE, detokenize, "detokenize", 1, USER, false, none, "Turns tokens into text.") \
	X(CANCEL, cancel, "cancel", 1, USER, false, none,                                        \
	  "Cancels requests of this connection; also accepted as a notification.")               \
	X(MODELS_LIST, models_list, "models.list", 1, USER, false, none,                         \
	  "Lists the configured models and their states.")                                       \
	X(MODELS_PS, models_ps, "models.ps", 1, USER, false, none,                               \
	  "Lists the models in memory, and who was evicted and why.")                            \
	X(MODELS_SHOW, models_show, "models.show", 1, USER, false, none,                         \
	  "Tells everything about one model.")                                                   \
	X(MODELS_LOAD, models_load, "models.load", 1, ADMIN, true, none,                         \
	  "Loads a model, or says what that would take.")                                        \
	X(MODELS_UNLOAD, models_unload, "models.unload", 1, ADMIN, false, none,                  \
	  "Takes a model out of memory.")

/* Other names peers use for a field. A("accepted", "known as"); only for fields of generation. */
#define BN_ALIAS_TABLE(A)                        \
	A("max_completion_tokens", "max_tokens") \
	A("n_predict", "max_tokens")

/* The only notification the server sends. */
#define BN_STREAM_NAME "stream"

/*
 * The `stream` notification: [2, "stream", [{id, seq, event, ...}]]. X(SYMBOL, word, sentence);
 * its fields are BN_FIELDS_event_<word>.
 */
#define BN_EVENT_TABLE(X)                                                    \
	X(QUEUED, queued, "The request waits for a place or for memory.")    \
	X(STATUS, status, "The model of the request is changing its state.") \
	X(PROGRESS, progress, "Part of the prompt has been read.")           \
	X(DELTA, delta, "Text was generated.")

#define BN_FIELDS_event(F, T)                                         \
	F(T, STR, id, MUST, 1, BN_LIMIT_ID_BYTES, "", "The request.") \
	F(T, INT, seq, MUST, 0, INT64_MAX, "", "0, 1, 2 ... within the request.")

#define BN_FIELDS_event_queued(F, T)                                                \
	F(T, INT, position, MUST, 0, 1048576, "", "Requests in front of this one.") \
	F(T, INT, eta_ms, MAY, 0, INT64_MAX, "not known", "Expected wait.")

#define BN_FIELDS_event_status(F, T)                                      \
	F(T, STR, state, MUST, 1, 64, "", "`loading` or `ready`.")        \
	F(T, STR, model, MUST, 1, BN_LIMIT_MODEL_BYTES, "", "The model.") \
	F(T, NUM, progress, MAY, 0.0, 1.0, "not known", "How much of it is done.")

#define BN_FIELDS_event_progress(F, T)                                             \
	F(T, INT, processed, MUST, 0, INT64_MAX, "", "Prompt tokens read so far.") \
	F(T, INT, total, MUST, 0, INT64_MAX, "", "Prompt tokens in all.")          \
	F(T, INT, cached, MUST, 0, INT64_MAX, "", "Of those, taken from kept context.")

#define BN_FIELDS_event_delta(F, T)                                                             \
	F(T, STR, text, MUST, 0, BN_LIMIT_MESSAGE_BYTES, "", "Whole UTF-8 characters.")         \
	F(T, INT, n, MUST, 0, INT64_MAX, "", "Tokens this text stands for.")                    \
	F(T, BIN, tokens, MAY, 0, BN_LIMIT_MESSAGE_BYTES, "no `logprobs`", "Token ids, u32le.") \
	F(T, BIN, logprobs, MAY, 0, BN_LIMIT_MESSAGE_BYTES, "no `logprobs`",                    \
	  "Their log-probabilities, f32le.")                                                    \
	F(T, BIN, top_tokens, MAY, 0, BN_LIMIT_MESSAGE_BYTES, "no `logprobs`",                  \
	  "n rows of the likeliest ids, u32le.")                                                \
	F(T, BIN, top_logprobs, MAY, 0, BN_LIMIT_MESSAGE_BYTES, "no `logprobs`",                \
	  "Their log-probabilities, f32le.")

#endif
