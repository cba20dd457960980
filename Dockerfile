FROM denoland/deno:2.9.6
WORKDIR /app
COPY . .
# Every part, and the drivers that some of them load when they are used.
RUN deno cache main.ts $(find lib -name '*.ts') && mkdir /data && chown deno /data
USER deno
ENV DATABASE_URL=sqlite:/data/chat.db
VOLUME /data
EXPOSE 8080
CMD ["run", "--allow-net", "--allow-env", "--allow-read=.,/data", "--allow-write=/data", "main.ts"]
