FROM denoland/deno:2.9.6
WORKDIR /app
COPY . .
RUN deno cache main.ts lib/engine/sqlite.ts lib/engine/sqlite_backup.ts && mkdir /data && chown deno /data
USER deno
ENV DATABASE_URL=sqlite:/data/chat.db
VOLUME /data
EXPOSE 8080
CMD ["run", "--allow-net", "--allow-env", "--allow-read=.,/data", "--allow-write=/data", "main.ts"]
