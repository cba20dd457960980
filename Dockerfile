FROM denoland/deno:2.9.6
WORKDIR /app
COPY . .
# Every part, and the drivers, which a server downloads where it uses them for the first time.
RUN deno cache main.ts $(find lib -name '*.ts') \
  && deno eval 'import "postgres"; import "ioredis"' \
  && mkdir /data && chown deno /data
USER deno
ENV DATABASE_URL=sqlite:/data/chat.db
VOLUME /data
EXPOSE 8080
CMD ["run", "--allow-net", "--allow-env", "--allow-read=.,/data", "--allow-write=/data", "main.ts"]
