// Damaged and hostile safetensors files: whatever the bytes, the reader refuses them with a
// UserError or gives tensors that lie inside the file and do not overlap. The mutations are the
// same on every run; a failure prints its number.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "core/base/error.h"
#include "core/base/rng.h"
#include "tests/checkpoint/scratch_folder.h"
#include "tests/checkpoint/sound_tensors.h"

namespace witan {
namespace {

std::string with_length(const std::string& header, std::size_t data_bytes) {
  const std::uint64_t length = header.size();
  std::string file(sizeof length, '\0');
  std::memcpy(file.data(), &length, sizeof length);
  return file + header + std::string(data_bytes, 'x');
}

// What the mutations start from.
const std::string kHeader =
    R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
    R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]},)"
    R"("c":{"dtype":"I64","shape":[],"data_offsets":[32,40]},)"
    R"("d":{"dtype":"U8","shape":[0,7],"data_offsets":[40,40]}})";

class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : random_(seed, "mutation") {}

  std::string mutate(std::string file) {
    const std::uint64_t times = 1 + below(4);
    for (std::uint64_t i = 0; i < times; ++i) change(file);
    // Half of the time the length tells the truth, so that the JSON behind it is looked at.
    if (below(2) == 0 && file.size() >= 8 + 40) {
      const std::uint64_t length = file.size() - 8 - 40;
      std::memcpy(file.data(), &length, sizeof length);
    }
    return file;
  }

 private:
  std::uint64_t below(std::uint64_t bound) { return random_.below(draw_++, bound); }
  std::size_t place(const std::string& file) {
    return static_cast<std::size_t>(below(file.size() + 1));
  }

  void change(std::string& file) {
    static const char* const kPieces[] = {"{",
                                          "}",
                                          "[",
                                          "]",
                                          ",",
                                          ":",
                                          "\"",
                                          "\\",
                                          "-",
                                          "18446744073709551615",
                                          "4",
                                          "1e3",
                                          "-0",
                                          "0.0",
                                          "true",
                                          "null",
                                          "24",
                                          "40",
                                          "\"a\":",
                                          "[0,24]",
                                          "9223372036854775807",
                                          "  ",
                                          "\xff",
                                          "F64",
                                          "__metadata__",
                                          "\xef\xbb\xbf",
                                          "\\ud800"};
    const std::size_t at = place(file);
    switch (below(6)) {
      case 0:
        if (at < file.size()) file[at] = static_cast<char>(below(256));
        break;
      case 1: file.insert(at, kPieces[below(std::size(kPieces))]); break;
      case 2: file.erase(at, static_cast<std::size_t>(below(20))); break;
      case 3: file.insert(at, file.substr(place(file), static_cast<std::size_t>(below(60)))); break;
      case 4: file.resize(at); break;
      default:  // one digit for another
        for (std::size_t i = at; i < file.size(); ++i) {
          if (file[i] < '0' || file[i] > '9') continue;
          file[i] = static_cast<char>('0' + below(10));
          break;
        }
    }
  }

  Random random_;
  std::uint64_t draw_ = 0;
};

TEST(SafetensorsMutationTest, NothingIsTakenOnTrust) {
  constexpr int kMutations = 4000;
  const ScratchFolder scratch;
  const std::string path = scratch / "mutated.safetensors";
  const std::string good = with_length(kHeader, 40);
  int accepted = 0;
  Mutator mutator(1);
  for (int i = 0; i < kMutations; ++i) {
    SCOPED_TRACE("mutation " + std::to_string(i));
    const std::string file = mutator.mutate(good);
    std::filesystem::remove(path);  // a new file, since some systems write an emptied one to disk
    std::ofstream(path, std::ios::binary) << file;
    try {
      const SafetensorsReader reader(path);
      ++accepted;
      EXPECT_EQ(what_is_unsound(reader, file.size()), "");
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find(path), std::string::npos) << error.what();
    }
    if (HasFailure()) break;
  }
  // Both happen: what is refused, and what is harmless (another name, white space).
  EXPECT_GT(accepted, kMutations / 200);
  EXPECT_LT(accepted, kMutations / 2);
}

}  // namespace
}  // namespace witan
