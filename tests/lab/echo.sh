#!/bin/sh
# KEY=VALUE lines about the request that arrived, its body as a hash, its token as a length
sum=$(sha256sum)
sum=${sum%% *}
printf 'Content-Type: text/plain\r\nX-Body-Sha256: %s\r\n\r\n' "$sum"
printf '%s=%s\n' METHOD "$REQUEST_METHOD" URI "$REQUEST_URI" PROTOCOL "$SERVER_PROTOCOL" \
	REMOTE_USER "$REMOTE_USER" AUTH_TYPE "$AUTH_TYPE" GSS_NAME "$GSS_NAME" KRB5CCNAME "$KRB5CCNAME" \
	CONTENT_LENGTH "$CONTENT_LENGTH" BODY_SHA256 "$sum" AUTHORIZATION_LENGTH "${#HTTP_AUTHORIZATION}"
env | sed -n '/^HTTP_AUTHORIZATION=/d; /^HTTP_/p'
