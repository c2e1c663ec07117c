/*
 * Runs operations of MIT's libraries for the benchmarks. For each line of standard
 * input it prints the total time of the operations in nanoseconds.
 *
 *   mit mint CCACHE SOURCE SPN...  tokens from the ticket cache CCACHE, the SPNs in
 *                                  turn; SOURCE is a file to fill it from first, or -
 *   mit cold KEYTAB PRINCIPAL SPN  logins with a keytab, each with a service ticket
 *
 * A line "N T" runs N operations on each of T threads.
 */
#include <gssapi/gssapi.h>
#include <gssapi/gssapi_ext.h>
#include <gssapi/gssapi_krb5.h>
#include <krb5.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static gss_OID_desc spnego = { 6, "\x2b\x06\x01\x05\x05\x02" };

static int64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die_krb5(krb5_context k, const char *what, krb5_error_code code)
{
	fprintf(stderr, "%s: %s\n", what, krb5_get_error_message(k, code));
	exit(1);
}

static void check_gss(const char *what, OM_uint32 major, OM_uint32 minor)
{
	OM_uint32 m, more = 0;
	gss_buffer_desc text;

	if (!GSS_ERROR(major))
		return;
	gss_display_status(&m, major, GSS_C_GSS_CODE, GSS_C_NO_OID, &more, &text);
	fprintf(stderr, "%s: %.*s", what, (int)text.length, (char *)text.value);
	more = 0;
	gss_display_status(&m, minor, GSS_C_MECH_CODE, &spnego, &more, &text);
	fprintf(stderr, " (%.*s)\n", (int)text.length, (char *)text.value);
	exit(1);
}

/* Shared by the threads. */
static gss_cred_id_t cred;
static gss_name_t *targets;
static int target_count;

static void fill(const char *to, const char *from)
{
	krb5_context k;
	krb5_ccache source, cache;
	krb5_principal who;
	krb5_error_code code;

	if ((code = krb5_init_context(&k)) != 0)
		die_krb5(NULL, "krb5_init_context", code);
	if ((code = krb5_cc_resolve(k, from, &source)) != 0 || (code = krb5_cc_get_principal(k, source, &who)) != 0)
		die_krb5(k, from, code);
	if ((code = krb5_cc_resolve(k, to, &cache)) != 0 || (code = krb5_cc_initialize(k, cache, who)) != 0)
		die_krb5(k, to, code);
	if ((code = krb5_cc_copy_creds(k, source, cache)) != 0)
		die_krb5(k, "krb5_cc_copy_creds", code);
	krb5_cc_close(k, source);
	krb5_free_context(k); /* the cache stays: it is in memory */
}

static void mint_setup(int argc, char **argv)
{
	OM_uint32 major, minor;
	gss_key_value_element_desc element = { "ccache", argv[2] };
	gss_key_value_set_desc store = { 1, &element };
	gss_OID_set_desc mechs = { 1, &spnego };
	int i;

	if (strcmp(argv[3], "-") != 0)
		fill(argv[2], argv[3]);
	major = gss_acquire_cred_from(&minor, GSS_C_NO_NAME, GSS_C_INDEFINITE, &mechs, GSS_C_INITIATE, &store, &cred, NULL, NULL);
	check_gss("gss_acquire_cred_from", major, minor);
	target_count = argc - 4;
	targets = calloc(target_count, sizeof *targets);
	for (i = 0; i < target_count; i++) {
		gss_buffer_desc name = { strlen(argv[4 + i]), argv[4 + i] };
		major = gss_import_name(&minor, &name, (gss_OID)GSS_KRB5_NT_PRINCIPAL_NAME, &targets[i]);
		check_gss("gss_import_name", major, minor);
	}
}

static void *mint(void *count)
{
	long n = *(long *)count, i;

	for (i = 0; i < n; i++) {
		OM_uint32 major, minor;
		gss_ctx_id_t context = GSS_C_NO_CONTEXT;
		gss_buffer_desc token = GSS_C_EMPTY_BUFFER;

		major = gss_init_sec_context(&minor, cred, &context, targets[i % target_count], &spnego,
		    GSS_C_REPLAY_FLAG | GSS_C_SEQUENCE_FLAG | GSS_C_INTEG_FLAG, 0, GSS_C_NO_CHANNEL_BINDINGS,
		    GSS_C_NO_BUFFER, NULL, &token, NULL, NULL);
		check_gss("gss_init_sec_context", major, minor);
		if (token.length == 0) {
			fprintf(stderr, "no token\n");
			exit(1);
		}
		gss_release_buffer(&minor, &token);
		gss_delete_sec_context(&minor, &context, GSS_C_NO_BUFFER);
	}
	return NULL;
}

static int64_t mint_all(long n, int threads)
{
	pthread_t id[64];
	int64_t begin = now();
	int i;

	if (threads <= 1) {
		mint(&n);
		return now() - begin;
	}
	for (i = 0; i < threads && i < 64; i++)
		pthread_create(&id[i], NULL, mint, &n);
	for (i = 0; i < threads && i < 64; i++)
		pthread_join(id[i], NULL);
	return now() - begin;
}

/* One login and one service ticket, like a new process. */
static void cold(char **argv)
{
	krb5_context k;
	krb5_principal who;
	krb5_keytab keytab;
	krb5_ccache cache;
	krb5_creds tgt, in, *out;
	krb5_error_code code;

	if ((code = krb5_init_context(&k)) != 0)
		die_krb5(NULL, "krb5_init_context", code);
	if ((code = krb5_parse_name(k, argv[3], &who)) != 0)
		die_krb5(k, argv[3], code);
	if ((code = krb5_kt_resolve(k, argv[2], &keytab)) != 0)
		die_krb5(k, argv[2], code);
	if ((code = krb5_get_init_creds_keytab(k, &tgt, who, keytab, 0, NULL, NULL)) != 0)
		die_krb5(k, "krb5_get_init_creds_keytab", code);
	if ((code = krb5_cc_new_unique(k, "MEMORY", NULL, &cache)) != 0 ||
	    (code = krb5_cc_initialize(k, cache, who)) != 0 ||
	    (code = krb5_cc_store_cred(k, cache, &tgt)) != 0)
		die_krb5(k, "ccache", code);
	memset(&in, 0, sizeof in);
	in.client = who;
	if ((code = krb5_parse_name(k, argv[4], &in.server)) != 0)
		die_krb5(k, argv[4], code);
	if ((code = krb5_get_credentials(k, 0, cache, &in, &out)) != 0)
		die_krb5(k, "krb5_get_credentials", code);
	krb5_free_creds(k, out);
	krb5_free_principal(k, in.server);
	krb5_free_cred_contents(k, &tgt);
	krb5_cc_destroy(k, cache);
	krb5_kt_close(k, keytab);
	krb5_free_principal(k, who);
	krb5_free_context(k);
}

int main(int argc, char **argv)
{
	char line[100];
	int minting = argc > 4 && strcmp(argv[1], "mint") == 0;

	if (!minting && (argc != 5 || strcmp(argv[1], "cold") != 0)) {
		fprintf(stderr, "usage: mit mint CCACHE SOURCE SPN... | mit cold KEYTAB PRINCIPAL SPN\n");
		return 2;
	}
	if (minting)
		mint_setup(argc, argv);
	while (fgets(line, sizeof line, stdin) != NULL) {
		long n = 0, i;
		int threads = 1;
		int64_t took;

		if (sscanf(line, "%ld %d", &n, &threads) < 1)
			return 2;
		if (minting) {
			took = mint_all(n, threads);
		} else {
			took = now();
			for (i = 0; i < n; i++)
				cold(argv);
			took = now() - took;
		}
		printf("%lld\n", (long long)took);
		fflush(stdout);
	}
	return 0;
}
