// Files written here read back bit for bit; every malformed file is refused with the reason.
#include "launch/checkpoint/safetensors.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <array>
#include <cstring>
#include <fstream>

#include "tests/checkpoint/scratch_folder.h"
#include "tests/checkpoint/thrown.h"

namespace witan {
namespace {

namespace fs = std::filesystem;

void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string length_of(std::uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes;
}

std::string file_of(const std::string& header, std::size_t data_bytes) {
  return length_of(header.size()) + header + std::string(data_bytes, 'x');
}

TEST(SafetensorsTest, RoundTrip) {
  const ScratchFolder scratch;
  const std::string path = scratch / "a.safetensors";
  const std::array<float, 6> matrix = {1.5F, -2.0F, 3.25F, 0.0F, -0.0F, 7.0F};
  const std::array<std::int64_t, 1> scalar = {-5};
  const std::array<std::uint8_t, 3> bytes = {1, 2, 255};
  const double pi = 3.14159;
  {
    SafetensorsWriter writer(path,
                             {{"b", StDType::kF32, {2, 3}},
                              {"a \"quoted\" \xc3\xa9", StDType::kI64, {}},
                              {"empty", StDType::kBF16, {4, 0}},
                              {"bytes", StDType::kU8, {3}},
                              {"unaligned", StDType::kF64, {1}}},
                             {{"format", "pt"}});
    writer.write(matrix.data(), 8);  // in pieces that end inside a tensor
    writer.write(matrix.data() + 2, 16);
    writer.write(scalar.data(), 8);
    writer.write(bytes.data(), 3);
    writer.write(&pi, 8);
    const FileDigest digest = writer.finish();
    EXPECT_EQ(digest, digest_of_file(path));
    EXPECT_EQ(digest.bytes, fs::file_size(path));
  }
  const SafetensorsReader reader(path);
  EXPECT_EQ(reader.tensors().size(), 5U);
  EXPECT_EQ(reader.metadata().at("format"), "pt");
  const StTensor* b = reader.find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(std::memcmp(reader.data(*b), matrix.data(), sizeof matrix), 0);
  const StTensor* a = reader.find("a \"quoted\" \xc3\xa9");
  ASSERT_NE(a, nullptr);
  EXPECT_TRUE(a->shape.empty());
  EXPECT_EQ(std::memcmp(reader.data(*a), scalar.data(), 8), 0);
  EXPECT_EQ(reader.find("empty")->bytes, 0U);
  EXPECT_EQ(std::memcmp(reader.data(*reader.find("unaligned")), &pi, 8), 0);
  EXPECT_EQ(reader.find("c"), nullptr);
}

TEST(SafetensorsTest, DataBeginsAtAMultipleOfEight) {
  const ScratchFolder scratch;
  for (int extra = 0; extra < 9; ++extra) {
    const std::string path = scratch / "a.safetensors";
    const float value = 1.0F;
    SafetensorsWriter writer(
        path, {{std::string(static_cast<std::size_t>(extra + 1), 'n'), StDType::kF32, {1}}});
    writer.write(&value, 4);
    writer.finish();
    EXPECT_EQ((fs::file_size(path) - 4) % 8, 0U);
  }
}

TEST(SafetensorsTest, NoTensors) {
  const ScratchFolder scratch;
  SafetensorsWriter(scratch / "a.safetensors", {}).finish();
  EXPECT_TRUE(SafetensorsReader(scratch / "a.safetensors").tensors().empty());
}

struct Malformed {
  const char* name;
  std::string bytes;
  const char* reason;
};

std::vector<Malformed> malformed_files() {
  const std::string good = R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  const auto tensor = [](const std::string& name, const std::string& shape, int begin, int end) {
    return "\"" + name + R"(":{"dtype":"F32","shape":)" + shape + R"(,"data_offsets":[)" +
           std::to_string(begin) + "," + std::to_string(end) + "]}";
  };
  std::string deep = R"({"t":)";
  for (int i = 0; i < 100000; ++i) deep += "[";
  return {
      {"Empty", "", "shorter than the header length"},
      {"SevenBytes", "1234567", "shorter than the header length"},
      {"HugeHeader", length_of(100'000'001) + good, "at most 100000000"},
      {"NegativeHeader", length_of(~0ULL) + good, "at most 100000000"},
      {"HeaderBeyondFile", length_of(1000) + good, "truncated: a header of 1000 bytes"},
      {"NoHeader", length_of(0), "does not begin with {"},
      {"SpaceInFront", file_of(" " + good, 8), "does not begin with {"},
      {"ByteOrderMark", file_of("\xef\xbb\xbf" + good, 8), "does not begin with {"},
      {"NotJson", file_of("{\"t\":", 0), "not JSON"},
      {"NumberTooLarge", file_of("{\"t\":1e999}", 0), "number overflow"},
      {"TextBehindJson", file_of(good + " x", 8), "not JSON"},
      {"NotUtf8", file_of("{\"\xff\":{}}", 0), "not JSON"},
      {"NotAnObject", file_of("[1]", 0), "does not begin with {"},
      {"Deep", file_of(deep, 0), "nested deeper"},
      {"DuplicateTensor",
       file_of("{" + tensor("t", "[2]", 0, 8) + "," + tensor("t", "[2]", 0, 8) + "}", 8),
       "the key \"t\" appears twice"},
      {"DuplicateKey",
       file_of(R"({"t":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8),
       "the key \"dtype\" appears twice"},
      {"MetadataNotText", file_of(R"({"__metadata__":{"a":1}})", 0), "__metadata__.a"},
      {"MetadataNotAnObject", file_of(R"({"__metadata__":"a"})", 0), "__metadata__"},
      {"TensorNotAnObject", file_of(R"({"t":[]})", 0), "\"t\": expected a JSON object"},
      {"UnknownKey", file_of(R"({"t":{"dtype":"F32","shape":[],"data_offsets":[0,4],"x":1}})", 4),
       "unknown key \"x\""},
      {"NoDtype", file_of(R"({"t":{"shape":[],"data_offsets":[0,4]}})", 4), "dtype is missing"},
      {"UnknownDtype", file_of(R"({"t":{"dtype":"F33","shape":[],"data_offsets":[0,4]}})", 4),
       "unknown dtype \"F33\""},
      {"NoShape", file_of(R"({"t":{"dtype":"F32","data_offsets":[0,4]}})", 4), "shape is missing"},
      {"NegativeExtent", file_of("{" + tensor("t", "[-2]", 0, 8) + "}", 8), "shape: expected"},
      {"FractionalExtent", file_of("{" + tensor("t", "[2.0]", 0, 8) + "}", 8), "shape: expected"},
      {"HugeExtent", file_of("{" + tensor("t", "[99999999999999999999]", 0, 8) + "}", 8),
       "shape: expected"},
      {"OverflowToZero", file_of("{" + tensor("t", "[4294967296,4294967296]", 0, 0) + "}", 0),
       "does not fit 64 bits"},
      {"NoOffsets", file_of(R"({"t":{"dtype":"F32","shape":[]}})", 4), "data_offsets is missing"},
      {"OneOffset", file_of(R"({"t":{"dtype":"F32","shape":[],"data_offsets":[4]}})", 4),
       "expected [begin, end]"},
      {"OffsetsReversed", file_of("{" + tensor("t", "[2]", 8, 0) + "}", 8),
       "expected [begin, end]"},
      {"SizeMismatch", file_of("{" + tensor("t", "[3]", 0, 8) + "}", 8), "takes 12 bytes"},
      {"BeyondFile", file_of("{" + tensor("t", "[2]", 0, 8) + "}", 7), "the file is truncated"},
      {"Overlap",
       file_of("{" + tensor("a", "[2]", 0, 8) + "," + tensor("b", "[2]", 4, 12) + "}", 12),
       "overlaps tensor"},
      {"Same", file_of("{" + tensor("a", "[2]", 0, 8) + "," + tensor("b", "[2]", 0, 8) + "}", 8),
       "overlaps tensor"},
      {"Gap", file_of("{" + tensor("a", "[1]", 0, 4) + "," + tensor("b", "[1]", 8, 12) + "}", 12),
       "leaves a gap behind byte 4"},
      {"GapInFront", file_of("{" + tensor("a", "[1]", 4, 8) + "}", 8), "leaves a gap"},
      {"BytesBehind", file_of("{" + tensor("a", "[1]", 0, 4) + "}", 5),
       "1 bytes behind the last tensor"},
  };
}

TEST(SafetensorsTest, MalformedFilesAreRefused) {
  const ScratchFolder scratch;
  for (const Malformed& file : malformed_files()) {
    SCOPED_TRACE(file.name);
    const std::string path = scratch / (std::string(file.name) + ".safetensors");
    write_bytes(path, file.bytes);
    const std::string message = user_error_of([&] { SafetensorsReader reader(path); });
    EXPECT_TRUE(contains(message, file.reason)) << message;
    EXPECT_TRUE(contains(message, path)) << message;
  }
}

TEST(SafetensorsTest, EveryTruncationIsRefused) {
  const ScratchFolder scratch;
  const std::string whole = file_of(R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8);
  write_bytes(scratch / "whole", whole);
  EXPECT_NO_THROW(SafetensorsReader(scratch / "whole"));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    write_bytes(scratch / "cut", whole.substr(0, length));
    EXPECT_THROW(SafetensorsReader(scratch / "cut"), UserError) << length;
  }
}

TEST(SafetensorsTest, MissingFileAndFolder) {
  const ScratchFolder scratch;
  EXPECT_USER_ERROR(SafetensorsReader(scratch / "none"), "No such file");
  EXPECT_USER_ERROR(SafetensorsReader(scratch.path()), "not a file");
}

TEST(SafetensorsTest, UnfinishedFileIsRemoved) {
  const ScratchFolder scratch;
  const std::string path = scratch / "a.safetensors";
  {
    SafetensorsWriter writer(path, {{"t", StDType::kF32, {2}}});
    const float value = 1.0F;
    writer.write(&value, 4);
    EXPECT_TRUE(fs::exists(path));
    EXPECT_THROW(writer.finish(), Error);  // 4 bytes are missing
  }
  EXPECT_FALSE(fs::exists(path));
  {
    SafetensorsWriter writer(path, {{"t", StDType::kF32, {1}}});
    const double value = 1.0;
    EXPECT_THROW(writer.write(&value, 8), Error);  // more than declared
  }
  EXPECT_FALSE(fs::exists(path));
  EXPECT_THROW(SafetensorsWriter(path, {{"t", StDType::kF32, {1}}, {"t", StDType::kF32, {1}}}),
               Error);
}

TEST(SafetensorsTest, FullDiskNamesTheFileAndWhatIsMissing) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  const std::string message = user_error_of([] {
    SafetensorsWriter writer("/dev/full", {{"t", StDType::kF32, {1000}}});
  });
  EXPECT_TRUE(contains(message, "/dev/full: cannot write the file: No space left")) << message;
  EXPECT_TRUE(contains(message, "bytes are missing")) << message;
  EXPECT_TRUE(fs::exists("/dev/full"));  // a device is not removed
}

TEST(SafetensorsTest, FileSizeLimitRemovesTheFile) {
  const ScratchFolder scratch;
  const std::string path = scratch / "a.safetensors";
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  const rlimit small = {4096, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::vector<float> values(10000);
  const std::string message = user_error_of([&] {
    SafetensorsWriter writer(path, {{"t", StDType::kF32, {10000}}});
    writer.write(values.data(), 40000);
    writer.finish();
  });
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, handler);
  EXPECT_TRUE(contains(message, "File too large")) << message;
  EXPECT_FALSE(fs::exists(path));
}

}  // namespace
}  // namespace witan
