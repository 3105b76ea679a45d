#include "launch/data/token_file.h"

#include <sys/mman.h>

#include <bit>

#include "core/base/error.h"
#include "launch/data/token_ids.h"

namespace witan {
namespace {

static_assert(std::endian::native == std::endian::little, "the formats are little endian");

constexpr std::size_t kHeaderBytes = 256 * sizeof(std::int32_t);

struct Variant {
  std::int32_t magic, version;
  int width;
};
constexpr Variant kVariants[] = {{20240520, 1, 2}, {20240801, 7, 4}};

const Variant* variant_of(std::int32_t magic) {
  for (const Variant& variant : kVariants)
    if (variant.magic == magic) return &variant;
  return nullptr;
}

}  // namespace

TokenFile::TokenFile(const std::string& path, Format format)
    : path_(path), file_(path, MADV_RANDOM), width_(format == Format::kRawUint32 ? 4 : 2) {
  if (format == Format::kLlmC)
    read_llm_c_header();
  else
    check_raw();
}

void TokenFile::read_llm_c_header() {
  const Variant* variant =
      file_.size() < kHeaderBytes ? nullptr : variant_of(file_.load<std::int32_t>(0));
  if (variant == nullptr)
    throw_user_error(
        path_,
        ": not a token file of llm.c (a header of 1024 bytes that begins with 20240520 "
        "or 20240801); a Megatron-LM dataset is named without .bin, and a file of "
        "tokens alone needs its dataset's format, RAW_UINT16 or RAW_UINT32");
  const auto version = file_.load<std::int32_t>(4);
  if (version != variant->version)
    throw_user_error(path_, ": version ", version, " of llm.c's token files, expected ",
                     variant->version, " with magic ", variant->magic);
  width_ = variant->width;
  data_begin_ = kHeaderBytes;
  const auto count = file_.load<std::int32_t>(8);
  const auto data_bytes = static_cast<std::int64_t>(file_.size() - kHeaderBytes);
  if (count < 0 || std::int64_t{count} * width_ != data_bytes)
    throw_user_error(
        path_, ": its header counts ", count, " tokens of ", width_, " bytes, but ", data_bytes,
        " bytes follow it: the file is ",
        count >= 0 && std::int64_t{count} * width_ > data_bytes ? "truncated" : "damaged");
  tokens_ = count;
}

void TokenFile::check_raw() {
  if (file_.size() >= kHeaderBytes && variant_of(file_.load<std::int32_t>(0)) != nullptr)
    throw_user_error(path_,
                     ": begins like a token file of llm.c, which has a header; expected "
                     "format AUTO for it");
  if (file_.size() % static_cast<std::size_t>(width_) != 0)
    throw_user_error(path_, ": ", file_.size(), " bytes, expected a multiple of ", width_,
                     ", the size of a token: truncated, or of another type");
  tokens_ = static_cast<std::int64_t>(file_.size()) / width_;
}

void TokenFile::read(std::int64_t begin, std::span<std::int32_t> out, std::int64_t vocab) const {
  const auto count = static_cast<std::int64_t>(out.size());
  WITAN_CHECK(begin >= 0 && begin + count <= tokens_, path_, ": tokens [", begin, ", ",
              begin + count, ") of ", tokens_);
  const std::byte* data = file_.data() + data_begin_;
  if (width_ == 2)
    read_token_ids<std::uint16_t>(data, begin, out, vocab, path_);
  else
    read_token_ids<std::uint32_t>(data, begin, out, vocab, path_);
}

}  // namespace witan
