// Plain, gzip and zstd files as streams of bytes.
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <vector>

#include "core/base/error.h"
#include "launch/data/file_descriptor.h"
#include "launch/data/input_files.h"

namespace witan {
namespace {

constexpr std::size_t kInputBytes = std::size_t{256} << 10;

class PlainSource final : public ByteSource {
 public:
  PlainSource(const std::string& path, std::int64_t begin)
      : file_(FileDescriptor::open_to_read(path)), begin_(begin), at_(begin) {}

  std::size_t read(std::span<char> out) override {
    const std::size_t count = file_.read_at(at_, out);
    at_ += static_cast<std::int64_t>(count);
    return count;
  }
  std::int64_t consumed() const override { return at_ - begin_; }

 private:
  FileDescriptor file_;
  std::int64_t begin_, at_;
};

// The compressed bytes of a file, a buffer at a time.
class CompressedFile {
 public:
  explicit CompressedFile(const std::string& path)
      : file_(FileDescriptor::open_to_read(path)), buffer_(kInputBytes) {}

  // The next bytes; empty at the end of the file.
  std::span<char> next() {
    const std::size_t count = file_.read_at(at_, buffer_);
    at_ += static_cast<std::int64_t>(count);
    return std::span(buffer_).first(count);
  }
  const std::string& path() const { return file_.path(); }
  std::int64_t consumed() const { return at_; }

 private:
  FileDescriptor file_;
  std::vector<char> buffer_;
  std::int64_t at_ = 0;
};

class GzipSource final : public ByteSource {
 public:
  explicit GzipSource(const std::string& path) : file_(path) {
    constexpr int kGzipWrapper = 16;  // added to the window bits: gzip, not zlib
    WITAN_CHECK(inflateInit2(&stream_, MAX_WBITS + kGzipWrapper) == Z_OK, path,
                ": zlib: no memory");
  }
  ~GzipSource() override { inflateEnd(&stream_); }
  GzipSource(const GzipSource&) = delete;
  GzipSource& operator=(const GzipSource&) = delete;

  std::size_t read(std::span<char> out) override {
    std::size_t done = 0;
    while (done < out.size()) {
      if (stream_.avail_in == 0 && !output_pending_ && !refill()) break;
      // A file may be several gzip members one after the other.
      if (member_ended_) inflateReset(&stream_);
      member_ended_ = false;
      const auto room = static_cast<uInt>(std::min<std::size_t>(out.size() - done, 1U << 30));
      stream_.next_out = reinterpret_cast<Bytef*>(out.data() + done);
      stream_.avail_out = room;
      const int status = inflate(&stream_, Z_NO_FLUSH);
      done += room - stream_.avail_out;
      member_ended_ = status == Z_STREAM_END;
      // Where `out` was full, zlib may hold more without needing more input.
      output_pending_ = status == Z_OK && stream_.avail_out == 0;
      if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
        throw_user_error(file_.path(), ": corrupt or not gzip",
                         stream_.msg != nullptr ? detail::concat(" (", stream_.msg, ")") : "",
                         " at byte ", file_.consumed() - stream_.avail_in);
    }
    return done;
  }
  std::int64_t consumed() const override { return file_.consumed(); }

 private:
  // False at the proper end of the data.
  bool refill() {
    const std::span<char> bytes = file_.next();
    if (bytes.empty() && !member_ended_)
      throw_user_error(file_.path(), ": the gzip data is truncated: it ends after ",
                       file_.consumed(), " bytes");
    stream_.next_in = reinterpret_cast<Bytef*>(bytes.data());
    stream_.avail_in = static_cast<uInt>(bytes.size());
    return !bytes.empty();
  }

  CompressedFile file_;
  z_stream stream_{};
  bool member_ended_ = false;
  bool output_pending_ = false;
};

class ZstdSource final : public ByteSource {
 public:
  explicit ZstdSource(const std::string& path) : file_(path), context_(ZSTD_createDCtx()) {
    WITAN_CHECK(context_ != nullptr, path, ": zstd: no memory");
  }
  ~ZstdSource() override { ZSTD_freeDCtx(context_); }
  ZstdSource(const ZstdSource&) = delete;
  ZstdSource& operator=(const ZstdSource&) = delete;

  std::size_t read(std::span<char> out) override {
    ZSTD_outBuffer target{out.data(), out.size(), 0};
    while (target.pos < target.size) {
      if (input_.pos == input_.size && !output_pending_) {
        const std::span<char> bytes = file_.next();
        if (bytes.empty()) {
          if (!frame_ended_)
            throw_user_error(file_.path(), ": the zstd data is truncated: it ends after ",
                             file_.consumed(), " bytes");
          break;
        }
        input_ = {bytes.data(), bytes.size(), 0};
      }
      const std::size_t status = ZSTD_decompressStream(context_, &target, &input_);
      if (ZSTD_isError(status))
        throw_user_error(file_.path(), ": corrupt or not zstd (", ZSTD_getErrorName(status),
                         ") near byte ", file_.consumed());
      frame_ended_ = status == 0;
      // A full target may have left decompressed bytes inside the context.
      output_pending_ = status != 0 && target.pos == target.size;
    }
    return target.pos;
  }
  std::int64_t consumed() const override { return file_.consumed(); }

 private:
  CompressedFile file_;
  ZSTD_DCtx* context_;
  ZSTD_inBuffer input_{nullptr, 0, 0};
  bool frame_ended_ = false;
  bool output_pending_ = false;
};

}  // namespace

std::unique_ptr<ByteSource> open_source(const InputFile& file, std::int64_t begin) {
  WITAN_CHECK(begin == 0 || file.compression == Compression::kNone, file.path,
              ": compressed, so it can only be read from its start");
  switch (file.compression) {
    case Compression::kNone: return std::make_unique<PlainSource>(file.path, begin);
    case Compression::kGzip: return std::make_unique<GzipSource>(file.path);
    case Compression::kZstd: return std::make_unique<ZstdSource>(file.path);
  }
  return nullptr;
}

}  // namespace witan
