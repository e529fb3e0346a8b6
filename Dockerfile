# The page, the API and the command line, on the CPU.
#
#   docker build -t tokenface .
#   docker run --rm -p 7860:7860 tokenface                                       # page and API
#   docker run --rm -v "$PWD":/work tokenface reconstruct photo.jpg -o out      # files beside the photo
FROM python:3.12-slim AS build
WORKDIR /source
# torch alone first: it changes least, and its CPU build leaves CUDA's libraries out
RUN pip install --no-cache-dir --prefix=/installed torch --index-url https://download.pytorch.org/whl/cpu
COPY pyproject.toml hatch_build.py README.md LICENSE LICENSES.md constraints.txt ./
COPY src ./src
RUN PYTHONPATH=/installed/lib/python3.12/site-packages pip install --no-cache-dir --prefix=/installed \
    --constraint constraints.txt ".[web,video,onnx]"

FROM python:3.12-slim
COPY --from=build /installed /usr/local
RUN useradd --create-home --uid 1000 person
USER person
# the face detector's files: fetched once, here, so that the container needs no network
RUN tokenface models fetch
WORKDIR /work
EXPOSE 7860
ENTRYPOINT ["tokenface"]
CMD ["serve", "--host", "0.0.0.0", "--allow-host", "localhost"]
